{{- define "mar.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Short enough for the longest suffix, "-replicas", in a name of 63 characters. */}}
{{- define "mar.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 54 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 54 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 54 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "mar.selector" -}}
app.kubernetes.io/name: {{ include "mar.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "mar.labels" -}}
{{ include "mar.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "mar.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{- define "mar.secret" -}}
{{- default (printf "%s-secrets" (include "mar.fullname" .)) .Values.secret.name }}
{{- end }}

{{- define "mar.configMap" -}}
{{- default (printf "%s-config" (include "mar.fullname" .)) .Values.existingConfigMap }}
{{- end }}

{{- define "mar.tlsSecret" -}}
{{- default (printf "%s-tls" (include "mar.fullname" .)) .Values.tls.secretName }}
{{- end }}

{{- define "mar.scheme" -}}
{{ ternary "https" "http" .Values.tls.enabled }}
{{- end }}

{{/* The secret's keys that are read, as a list of variable and key, in one order for the pod and the ExternalSecret. */}}
{{- define "mar.keys" -}}
{{- $keys := .Values.secret.keys }}
{{- $login := default (ternary "password" "token" .Values.postgres.enabled) .Values.secret.login }}
{{- $used := list (list "MATRIX_HOMESERVER_FILE" $keys.homeserver) (list "MATRIX_USER_ID_FILE" $keys.userId) }}
{{- if eq $login "token" }}
{{- $used = append $used (list "MATRIX_ACCESS_TOKEN_FILE" $keys.accessToken) }}
{{- else if eq $login "password" }}
{{- $used = append $used (list "MATRIX_PASSWORD_FILE" $keys.password) }}
{{- end }}
{{- $used = append $used (list "MATRIX_ROOM_ID_FILE" $keys.roomId) }}
{{- $used = append $used (list "WEBHOOK_TOKEN_FILE" $keys.webhookToken) }}
{{- if .Values.postgres.enabled }}
{{- $used = append $used (list "MAR_STORE__DATABASE_URL_FILE" $keys.databaseUrl) }}
{{- end }}
{{- $set := list }}
{{- range $used }}
{{- if index . 1 }}{{ $set = append $set . }}{{ end }}
{{- end }}
{{- $set | toJson }}
{{- end }}

{{/* What no schema can say in words. */}}
{{- define "mar.check" -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.postgres.enabled) }}
{{- fail "replicas: several replicas need PostgreSQL. Set postgres.enabled=true (docs/REPLICAS.md), or replicas=1." }}
{{- end }}
{{- if and .Values.postgres.enabled .Values.persistence.existingClaim }}
{{- fail "persistence.existingClaim: with postgres.enabled each replica has a volume for itself. Remove one of the two." }}
{{- end }}
{{- if and .Values.postgres.enabled (not .Values.secret.keys.databaseUrl) }}
{{- fail "secret.keys.databaseUrl: postgres.enabled needs the secret's key that holds the database's URL." }}
{{- end }}
{{- if and .Values.tls.certificate.enabled (not .Values.tls.enabled) }}
{{- fail "tls.certificate.enabled: set tls.enabled=true as well, or nothing would serve the certificate." }}
{{- end }}
{{- if and (not .Values.existingConfigMap) (not (trim .Values.config)) }}
{{- fail "config: it is empty. Write the receiver's TOML there, or name a ConfigMap in existingConfigMap." }}
{{- end }}
{{- end }}
