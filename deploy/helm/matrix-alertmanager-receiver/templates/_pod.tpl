{{/* The pod of the Deployment and of the StatefulSet. */}}
{{- define "mar.pod" -}}
metadata:
  labels:
    {{- include "mar.selector" . | nindent 4 }}
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    kubectl.kubernetes.io/default-container: receiver
    {{- if and .Values.restartOnConfigChange (not .Values.existingConfigMap) }}
    checksum/config: {{ .Values.config | sha256sum | quote }}
    {{- end }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  # It never talks to the API server.
  automountServiceAccountToken: false
  {{- with .Values.serviceAccountName }}
  serviceAccountName: {{ . }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
  {{- end }}
  enableServiceLinks: false
  # It stops within 10 s.
  terminationGracePeriodSeconds: 30
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- if .Values.affinity }}
  affinity: {{- toYaml .Values.affinity | nindent 4 }}
  {{- else if .Values.postgres.enabled }}
  # Not two on one node, and not all in one zone, where there are several: a pod that can only run beside another still
  # runs.
  affinity:
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels: {{- include "mar.selector" . | nindent 14 }}
  {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints: {{- toYaml .Values.topologySpreadConstraints | nindent 2 }}
  {{- else if .Values.postgres.enabled }}
  topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "mar.selector" . | nindent 8 }}
  {{- end }}
  securityContext: {{- toYaml .Values.podSecurityContext | nindent 4 }}
  containers:
  - name: receiver
    image: {{ include "mar.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    env:
    - { name: MAR_CONFIG, value: /etc/matrix-alertmanager-receiver/config.toml }
    # Files, since variables never change under a running pod.
    {{- range include "mar.keys" . | fromJsonArray }}
    - { name: {{ index . 0 }}, value: /run/secrets/matrix-alertmanager-receiver/{{ index . 1 }} }
    {{- end }}
    {{- if .Values.tls.enabled }}
    - { name: MAR_HTTP__TLS__CERT_FILE, value: /run/secrets/matrix-alertmanager-receiver-tls/tls.crt }
    - { name: MAR_HTTP__TLS__KEY_FILE, value: /run/secrets/matrix-alertmanager-receiver-tls/tls.key }
    {{- end }}
    {{- with .Values.extraEnv }}{{ toYaml . | nindent 4 }}{{ end }}
    ports:
    - { name: http, containerPort: 9088 }
    # Neither asks for the homeserver: a restart would not fix it, and an unready pod could not accept what it keeps until
    # the homeserver is back.
    livenessProbe:
      httpGet: { path: /livez, port: http{{ if .Values.tls.enabled }}, scheme: HTTPS{{ end }} }
      periodSeconds: 20
      timeoutSeconds: 5
      failureThreshold: 6
    readinessProbe:
      httpGet: { path: /readyz, port: http{{ if .Values.tls.enabled }}, scheme: HTTPS{{ end }} }
      periodSeconds: 5
      timeoutSeconds: 5
      failureThreshold: 3
    resources: {{- toYaml .Values.resources | nindent 6 }}
    securityContext: {{- toYaml .Values.securityContext | nindent 6 }}
    volumeMounts:
    - { name: store, mountPath: /var/lib/matrix-alertmanager-receiver }
    - { name: config, mountPath: /etc/matrix-alertmanager-receiver, readOnly: true }
    # The directory, not a subPath, which would never follow a change of the secret.
    - { name: secrets, mountPath: /run/secrets/matrix-alertmanager-receiver, readOnly: true }
    {{- if .Values.tls.enabled }}
    - { name: tls, mountPath: /run/secrets/matrix-alertmanager-receiver-tls, readOnly: true }
    {{- end }}
    {{- range $index, $secret := .Values.extraSecrets }}
    - { name: extra-secret-{{ $index }}, mountPath: {{ $secret.mountPath }}, readOnly: true }
    {{- end }}
    {{- with .Values.extraVolumeMounts }}{{ toYaml . | nindent 4 }}{{ end }}
  volumes:
  {{- if not .Values.postgres.enabled }}
  - name: store
    persistentVolumeClaim:
      claimName: {{ default (include "mar.fullname" .) .Values.persistence.existingClaim }}
  {{- end }}
  - name: config
    configMap:
      name: {{ include "mar.configMap" . }}
  - name: secrets
    secret:
      secretName: {{ include "mar.secret" . }}
      # 0440
      defaultMode: 288
  {{- if .Values.tls.enabled }}
  - name: tls
    secret:
      secretName: {{ include "mar.tlsSecret" . }}
      defaultMode: 288
  {{- end }}
  {{- range $index, $secret := .Values.extraSecrets }}
  - name: extra-secret-{{ $index }}
    secret:
      secretName: {{ $secret.name }}
      defaultMode: 288
  {{- end }}
  {{- with .Values.extraVolumes }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
