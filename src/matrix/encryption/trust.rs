//! Trust: the account's identity (cross-signing), this device signed by it, and recovery for the next device.
//!
//! What the homeserver shows to others counts. The SDK's store may also have an identity whose upload was refused.

use std::time::Duration;

use matrix_sdk::{
    Client,
    encryption::{CrossSigningResetAuthType, Encryption, recovery::RecoveryError, secret_storage::SecretStorageError},
    ruma::api::client::uiaa::{AuthData, AuthType, Dummy, MatrixUserIdentifier, Password, UiaaInfo, UserIdentifier},
};
use tokio::time::timeout;

use super::recovery::{IdentityStage, RecoveryFiles};
use crate::{
    config::Secret,
    matrix::api::{
        client::{Api, PublishedKeys},
        errors::{self, ApiError},
    },
};

/// How long the SDK may finish the work that it starts by itself after a session is opened.
const INIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Why this device is not signed by the account's identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TrustError {
    #[error(
        "the account has an identity that another device created, and this device is not signed by it: put the \
         account's recovery key into a file and set matrix.recovery_key_file to it (or create a new identity with \
         login --reset-identity)"
    )]
    NoRecoveryKey,
    #[error(
        "the recovery key does not open this account's identity ({0}): set matrix.recovery_key_file to the right one (or \
         create a new identity with login --reset-identity)"
    )]
    WrongRecoveryKey(String),
    #[error(
        "the homeserver requires the account's password for a new identity: run login, or set matrix.password_file"
    )]
    NeedsPassword,
    #[error("the homeserver requires an approval of the change in a browser: {0}")]
    NeedsApproval(String),
    #[error("the account has no identity yet: the leader creates it as soon as a room is encrypted")]
    WaitsForLeader,
    #[error("cannot sign this device: {0}")]
    Failed(String),
}

impl TrustError {
    fn sdk(error: &matrix_sdk::Error) -> Self {
        Self::Failed(ApiError::from_sdk(error).error.detail)
    }

    fn other(error: &impl ToString) -> Self {
        Self::Failed(errors::clean(&error.to_string()))
    }

    pub fn disk(error: &anyhow::Error) -> Self {
        Self::Failed(format!("{error:#}"))
    }

    fn recovery(error: &RecoveryError) -> Self {
        match error {
            RecoveryError::Sdk(error) | RecoveryError::SecretStorage(SecretStorageError::Sdk(error)) => {
                Self::sdk(error)
            }
            RecoveryError::SecretStorage(error) => Self::secret_storage(error),
            RecoveryError::BackupExistsOnServer => Self::Failed("another device has created a key backup".to_owned()),
        }
    }

    fn secret_storage(error: &SecretStorageError) -> Self {
        match error {
            SecretStorageError::Sdk(error) => Self::sdk(error),
            SecretStorageError::MissingKeyInfo { .. } => {
                Self::WrongRecoveryKey("the account has no recovery set up".to_owned())
            }
            // The error's own text may quote what was entered in place of a key.
            SecretStorageError::SecretStorageKey(_) => {
                Self::WrongRecoveryKey("it is not this account's key".to_owned())
            }
            SecretStorageError::ImportError { .. } | SecretStorageError::Decryption(_) => {
                Self::WrongRecoveryKey("it opens an older identity".to_owned())
            }
            error => Self::other(error),
        }
    }
}

/// A recovery key that was created just now. Nobody has seen it: the caller must show or store it, and set the stage.
pub(crate) struct NewRecoveryKey {
    pub key: Secret,
    /// The account had recovery set up by another client, whose key opens nothing that is still in use.
    pub replaces: bool,
}

/// Signs the device with the account's identity. With `may_create`, creates the identity if the account has none; never
/// replaces one. Returns the recovery key if one was created.
///
/// # Errors
/// Why the device is not signed. Finished steps are kept: the next call continues.
pub(crate) async fn establish(
    client: &Client,
    api: &Api,
    recovery: &RecoveryFiles,
    password: Option<&Secret>,
    may_create: bool,
) -> Result<Option<NewRecoveryKey>, TrustError> {
    let encryption = client.encryption();
    let _ = timeout(INIT_TIMEOUT, encryption.wait_for_e2ee_initialization_tasks()).await;
    // The SDK drops the private keys of an identity that another one has replaced.
    refresh(client).await?;
    let ours = has_private_keys(&encryption).await;
    // An identity that is known here without its private keys belongs to another client and is not ours to replace.
    let replaces_none = ours || own_master_key(client).await?.is_none();
    if replaces_none && published_keys(client, api).await?.master.is_none() {
        if !may_create {
            return Err(TrustError::WaitsForLeader);
        }
        // One that the homeserver lost, or never accepted, is uploaded again and keeps its recovery key.
        let again = ours && recovery.stage() == Some(IdentityStage::Made);
        if !again {
            recovery.begin_identity().map_err(|error| TrustError::disk(&error))?;
        }
        create_identity(client, api, password).await?;
        refresh(client).await?;
        tracing::info!("created the account's cross-signing identity");
    }
    let recovered = !has_private_keys(&encryption).await;
    if recovered {
        recover(&encryption, recovery).await?;
        // The account has recovery, whoever set it up.
        recovery.set_stage(IdentityStage::Made).map_err(|error| TrustError::disk(&error))?;
    }
    sign_device(client, api).await?;
    if recovery.stage() == Some(IdentityStage::Making) && !recovery.has_key_file() {
        return create_recovery(&encryption).await.map(Some);
    }
    match &recovery.configured {
        Some(key) if !recovered => check_key(&encryption, key).await.map(|()| None),
        _ => Ok(None),
    }
}

/// Replaces the account's identity by a new one: clients of users who verified the old one will report the change.
///
/// # Errors
/// When the homeserver or the disk refuses.
pub(crate) async fn reset(client: &Client, recovery: &RecoveryFiles, password: &Secret) -> Result<(), TrustError> {
    let encryption = client.encryption();
    let _ = timeout(INIT_TIMEOUT, encryption.wait_for_e2ee_initialization_tasks()).await;
    recovery.begin_identity().map_err(|error| TrustError::disk(&error))?;
    let handle = encryption.recovery().reset_identity().await.map_err(|error| TrustError::recovery(&error))?;
    let Some(handle) = handle else { return Ok(()) };
    match handle.auth_type() {
        CrossSigningResetAuthType::Uiaa(asked) => {
            let proof = proof(client, Some(password), asked)?;
            handle.reset(Some(proof)).await.map_err(|error| TrustError::recovery(&error))
        }
        CrossSigningResetAuthType::OAuth(asked) => Err(TrustError::NeedsApproval(asked.approval_url.to_string())),
    }
}

fn not_logged_in() -> TrustError {
    TrustError::Failed("not logged in".to_owned())
}

/// What the homeserver shows of the account's identity and of this device, without what the SDK would add.
async fn published_keys(client: &Client, api: &Api) -> Result<PublishedKeys, TrustError> {
    let session = client.user_id().zip(client.device_id()).zip(client.access_token());
    let ((user, device), token) = session.ok_or_else(not_logged_in)?;
    api.published_keys(user, device, &token).await.map_err(|error| TrustError::Failed(error.detail))
}

/// Updates the SDK's store: another device may have created another identity meanwhile.
async fn refresh(client: &Client) -> Result<(), TrustError> {
    let user = client.user_id().ok_or_else(not_logged_in)?;
    let identity = client.encryption().request_user_identity(user).await;
    identity.map(drop).map_err(|error| TrustError::sdk(&error))
}

async fn create_identity(client: &Client, api: &Api, password: Option<&Secret>) -> Result<(), TrustError> {
    let encryption = client.encryption();
    let Err(refusal) = encryption.bootstrap_cross_signing(None).await else { return Ok(()) };
    // Another device was faster. With a proof, the homeserver would treat this as a replacement.
    if published_keys(client, api).await?.master.is_some() {
        return Ok(());
    }
    let Some(asked) = refusal.as_uiaa_response() else { return Err(TrustError::sdk(&refusal)) };
    let proof = proof(client, password, asked)?;
    encryption.bootstrap_cross_signing(Some(proof)).await.map_err(|error| TrustError::sdk(&error))
}

/// Proves that this is the account's owner, by what there is and the homeserver accepts.
fn proof(client: &Client, password: Option<&Secret>, asked: &UiaaInfo) -> Result<AuthData, TrustError> {
    let takes = |stage: &AuthType| asked.flows.iter().any(|flow| flow.stages == [stage.clone()]);
    if takes(&AuthType::Dummy) {
        let mut proof = Dummy::new();
        proof.session.clone_from(&asked.session);
        return Ok(AuthData::Dummy(proof));
    }
    if !takes(&AuthType::Password) {
        let stages = asked.flows.iter().flat_map(|flow| &flow.stages).map(ToString::to_string).collect::<Vec<_>>();
        let text = format!("the homeserver accepts no password here, only: {}", stages.join(", "));
        return Err(TrustError::Failed(errors::clean(&text)));
    }
    let user = client.user_id().ok_or_else(not_logged_in)?;
    let user = UserIdentifier::Matrix(MatrixUserIdentifier::new(user.to_string()));
    let mut proof = Password::new(user, password.ok_or(TrustError::NeedsPassword)?.expose().to_owned());
    proof.session.clone_from(&asked.session);
    Ok(AuthData::Password(proof))
}

/// Whether the private keys of the identity are here. The SDK drops them once the homeserver has another identity.
async fn has_private_keys(encryption: &Encryption) -> bool {
    encryption.cross_signing_status().await.is_some_and(|status| status.is_complete())
}

async fn recover(encryption: &Encryption, recovery: &RecoveryFiles) -> Result<(), TrustError> {
    let key = recovery.recovery_key().map_err(|error| TrustError::disk(&error))?.ok_or(TrustError::NoRecoveryKey)?;
    encryption.recovery().recover(key.expose()).await.map_err(|error| TrustError::recovery(&error))?;
    if !has_private_keys(encryption).await {
        return Err(TrustError::WrongRecoveryKey("it opens no identity".to_owned()));
    }
    tracing::info!("recovered the cross-signing identity with the recovery key");
    Ok(())
}

async fn sign_device(client: &Client, api: &Api) -> Result<(), TrustError> {
    for _ in 0..2 {
        let device = client.encryption().get_own_device().await;
        let device = device.map_err(|error| TrustError::other(&error))?;
        let Some(device) = device else {
            return Err(TrustError::Failed("the homeserver does not know this device's keys".to_owned()));
        };
        let published_keys = published_keys(client, api).await?;
        let own = own_master_key(client).await?;
        if published_keys.master.is_none() || published_keys.master != own {
            return Err(TrustError::Failed("the homeserver shows another identity than the store has".to_owned()));
        }
        if device.is_cross_signed_by_owner() && published_keys.signed {
            return Ok(());
        }
        device.verify().await.map_err(|error| TrustError::other(&error))?;
        // Downloads the signature that was just uploaded.
        refresh(client).await?;
    }
    Err(TrustError::Failed("the homeserver accepted the signature but does not show it".to_owned()))
}

/// The public part of the identity in the SDK's store, as base64.
async fn own_master_key(client: &Client) -> Result<Option<String>, TrustError> {
    let user = client.user_id().ok_or_else(not_logged_in)?;
    let identity = client.encryption().get_user_identity(user).await;
    let identity = identity.map_err(|error| TrustError::other(&error))?;
    Ok(identity.and_then(|identity| identity.master_key().get_first_key()).map(|key| key.to_base64()))
}

/// Creates a recovery key, for secret storage (which then has the identity's private keys) and the key backup.
async fn create_recovery(encryption: &Encryption) -> Result<NewRecoveryKey, TrustError> {
    let recovery = encryption.recovery();
    let replaces = encryption.secret_storage().is_enabled().await.map_err(|error| TrustError::sdk(&error))?;
    let key = match recovery.enable().await {
        // Another client's backup; the identity still needs recovery.
        Err(RecoveryError::BackupExistsOnServer) => recovery.reset_key().await,
        made => made,
    };
    let key = key.map(Secret::new).map_err(|error| TrustError::recovery(&error))?;
    Ok(NewRecoveryKey { key, replaces })
}

/// Checks that a configured key is the account's: when it is needed, it is too late to find out.
async fn check_key(encryption: &Encryption, key: &Secret) -> Result<(), TrustError> {
    let opened = encryption.secret_storage().open_secret_store(key.expose()).await;
    opened.map(drop).map_err(|error| TrustError::secret_storage(&error))
}
