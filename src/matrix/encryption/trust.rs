//! Trust: the account's identity (cross-signing), this device signed by it, and recovery for the next device.
//!
//! What counts is what the homeserver shows to others. The SDK's store also holds an identity whose upload was refused.

use std::time::Duration;

use matrix_sdk::{
    Client,
    encryption::{CrossSigningResetAuthType, Encryption, recovery::RecoveryError, secret_storage::SecretStorageError},
    ruma::api::client::uiaa::{AuthData, AuthType, Dummy, MatrixUserIdentifier, Password, UiaaInfo, UserIdentifier},
};
use tokio::time::timeout;

use super::recovery::{RecoveryKit, Stage};
use crate::{
    config::Secret,
    matrix::api::{
        client::{Api, PublishedKeys},
        errors,
    },
};

/// What the SDK begins by itself after a session is opened should be over by then.
const INITIALISED: Duration = Duration::from_secs(30);

/// Why this device is not signed by the account's identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Distrust {
    #[error(
        "the account has an identity that another device made, and this device is not signed by it: put the account's \
         recovery key into a file and name it in matrix.recovery_key_file (or give the account a new identity with \
         login --reset-identity)"
    )]
    NoRecoveryKey,
    #[error(
        "the recovery key does not open this account's identity ({0}): set matrix.recovery_key_file to the right one (or \
         give the account a new identity with login --reset-identity)"
    )]
    WrongRecoveryKey(String),
    #[error(
        "the homeserver wants the account's password before it takes an identity: run login, or set matrix.password_file"
    )]
    NeedsPassword,
    #[error("the homeserver wants the change approved in a browser first: {0}")]
    NeedsApproval(String),
    #[error("this device could not be signed: {0}")]
    Failed(String),
}

impl Distrust {
    fn sdk(error: &matrix_sdk::Error) -> Self {
        Self::Failed(errors::sdk(error).error.detail)
    }

    fn disk(error: &anyhow::Error) -> Self {
        Self::Failed(format!("{error:#}"))
    }

    fn recovery(error: &RecoveryError) -> Self {
        match error {
            RecoveryError::Sdk(error) | RecoveryError::SecretStorage(SecretStorageError::Sdk(error)) => {
                Self::sdk(error)
            }
            RecoveryError::SecretStorage(error) => Self::secret_storage(error),
            RecoveryError::BackupExistsOnServer => {
                Self::Failed("a key backup of another device is in the way".to_owned())
            }
        }
    }

    fn secret_storage(error: &SecretStorageError) -> Self {
        match error {
            SecretStorageError::Sdk(error) => Self::sdk(error),
            SecretStorageError::MissingKeyInfo { .. } => {
                Self::WrongRecoveryKey("the account has no recovery set up".to_owned())
            }
            // Its own text may quote what was typed in place of a key.
            SecretStorageError::SecretStorageKey(_) => Self::WrongRecoveryKey("it is not this account's".to_owned()),
            SecretStorageError::ImportError { .. } | SecretStorageError::Decryption(_) => {
                Self::WrongRecoveryKey("what it opens is of an older identity".to_owned())
            }
            error => Self::Failed(errors::clean(&error.to_string())),
        }
    }
}

/// A recovery key that was made just now. Nobody has seen it yet, and the kit must be told what became of it.
pub(crate) struct NewKey {
    pub key: Secret,
    /// The account had recovery set up by somebody, whose key opens nothing that is still in use.
    pub replaces: bool,
}

/// Sees to it that the device is signed by the account's identity. Makes the identity if the account has none, and never
/// replaces one. Returns the recovery key if one was made.
///
/// # Errors
/// Why the device is not signed. What was done up to there is not lost: the next call goes on.
pub(crate) async fn establish(
    client: &Client,
    api: &Api,
    recovery_kit: &RecoveryKit,
    password: Option<&Secret>,
) -> Result<Option<NewKey>, Distrust> {
    let encryption = client.encryption();
    let _ = timeout(INITIALISED, encryption.wait_for_e2ee_initialization_tasks()).await;
    // The SDK drops the private keys of an identity that another one has replaced.
    refresh(client).await?;
    let ours = has_private_keys(&encryption).await;
    // One that is known here and cannot be uploaded again is missed by its owner: it is not ours to replace.
    let may_make = ours || own_master_key(client).await?.is_none();
    if may_make && published_keys(client, api).await?.master.is_none() {
        // One that the homeserver lost, or never took, is uploaded again, and its recovery key stays what it is.
        let again = ours && recovery_kit.stage() == Some(Stage::Made);
        if !again {
            recovery_kit
                .note(Stage::Making)
                .and_then(|()| recovery_kit.set_aside())
                .map_err(|error| Distrust::disk(&error))?;
        }
        make_identity(client, api, password).await?;
        refresh(client).await?;
        tracing::info!("the account had no identity (cross-signing keys) and was given one");
    }
    let recovered = !has_private_keys(&encryption).await;
    if recovered {
        recover(&encryption, recovery_kit).await?;
        // Then it has recovery, whoever made it.
        recovery_kit.note(Stage::Made).map_err(|error| Distrust::disk(&error))?;
    }
    sign_device(client, api).await?;
    if recovery_kit.stage() == Some(Stage::Making) && !recovery_kit.is_here() {
        return make_recovery(&encryption).await.map(Some);
    }
    match &recovery_kit.configured {
        Some(key) if !recovered => opens(&encryption, key).await.map(|()| None),
        _ => Ok(None),
    }
}

/// Replaces the account's identity by a new one: whoever verified the old one will be told that it changed.
///
/// # Errors
/// When the homeserver or the disk refuses.
pub(crate) async fn reset(client: &Client, recovery_kit: &RecoveryKit, password: &Secret) -> Result<(), Distrust> {
    let encryption = client.encryption();
    let _ = timeout(INITIALISED, encryption.wait_for_e2ee_initialization_tasks()).await;
    recovery_kit.note(Stage::Making).and_then(|()| recovery_kit.set_aside()).map_err(|error| Distrust::disk(&error))?;
    let handle = encryption.recovery().reset_identity().await.map_err(|error| Distrust::recovery(&error))?;
    let Some(handle) = handle else { return Ok(()) };
    match handle.auth_type() {
        CrossSigningResetAuthType::Uiaa(asked) => {
            let proof = proof(client, Some(password), asked)?;
            handle.reset(Some(proof)).await.map_err(|error| Distrust::recovery(&error))
        }
        CrossSigningResetAuthType::OAuth(asked) => Err(Distrust::NeedsApproval(asked.approval_url.to_string())),
    }
}

/// What the homeserver shows of the account's identity and of this device: asked for without the SDK, which adds its own.
async fn published_keys(client: &Client, api: &Api) -> Result<PublishedKeys, Distrust> {
    let session = client.user_id().zip(client.device_id()).zip(client.access_token());
    let ((user, device), token) = session.ok_or_else(|| Distrust::Failed("not logged in".to_owned()))?;
    api.published_keys(user, device, &token).await.map_err(|fault| Distrust::Failed(fault.detail))
}

/// Brings the SDK's store up to date: another device may have made another identity meanwhile.
async fn refresh(client: &Client) -> Result<(), Distrust> {
    let user = client.user_id().ok_or_else(|| Distrust::Failed("not logged in".to_owned()))?;
    let identity = client.encryption().request_user_identity(user).await;
    identity.map(drop).map_err(|error| Distrust::sdk(&error))
}

async fn make_identity(client: &Client, api: &Api, password: Option<&Secret>) -> Result<(), Distrust> {
    let encryption = client.encryption();
    let Err(refusal) = encryption.bootstrap_cross_signing(None).await else { return Ok(()) };
    // Another device was quicker. Given a proof, the homeserver would take this for a replacement.
    if published_keys(client, api).await?.master.is_some() {
        return Ok(());
    }
    let Some(asked) = refusal.as_uiaa_response() else { return Err(Distrust::sdk(&refusal)) };
    let proof = proof(client, password, asked)?;
    encryption.bootstrap_cross_signing(Some(proof)).await.map_err(|error| Distrust::sdk(&error))
}

/// What the homeserver accepts as a proof that this is the account's owner, of what there is.
fn proof(client: &Client, password: Option<&Secret>, asked: &UiaaInfo) -> Result<AuthData, Distrust> {
    let takes = |stage: &AuthType| asked.flows.iter().any(|flow| flow.stages == [stage.clone()]);
    if takes(&AuthType::Dummy) {
        let mut proof = Dummy::new();
        proof.session.clone_from(&asked.session);
        return Ok(AuthData::Dummy(proof));
    }
    if !takes(&AuthType::Password) {
        let stages = asked.flows.iter().flat_map(|flow| &flow.stages).map(ToString::to_string).collect::<Vec<_>>();
        let text = format!("the homeserver wants a proof that a password is not ({})", stages.join(", "));
        return Err(Distrust::Failed(errors::clean(&text)));
    }
    let user = client.user_id().ok_or_else(|| Distrust::Failed("not logged in".to_owned()))?;
    let user = UserIdentifier::Matrix(MatrixUserIdentifier::new(user.to_string()));
    let mut proof = Password::new(user, password.ok_or(Distrust::NeedsPassword)?.expose().to_owned());
    proof.session.clone_from(&asked.session);
    Ok(AuthData::Password(proof))
}

/// Whether the private halves of the identity are here. The SDK drops them once the homeserver has another identity.
async fn has_private_keys(encryption: &Encryption) -> bool {
    encryption.cross_signing_status().await.is_some_and(|status| status.is_complete())
}

async fn recover(encryption: &Encryption, recovery_kit: &RecoveryKit) -> Result<(), Distrust> {
    let key = recovery_kit.recovery_key().map_err(|error| Distrust::disk(&error))?.ok_or(Distrust::NoRecoveryKey)?;
    encryption.recovery().recover(key.expose()).await.map_err(|error| Distrust::recovery(&error))?;
    if !has_private_keys(encryption).await {
        return Err(Distrust::WrongRecoveryKey("it opens no identity".to_owned()));
    }
    tracing::info!("this device has the account's identity back, by the recovery key");
    Ok(())
}

async fn sign_device(client: &Client, api: &Api) -> Result<(), Distrust> {
    for _ in 0..2 {
        let device = client.encryption().get_own_device().await;
        let device = device.map_err(|error| Distrust::Failed(errors::clean(&error.to_string())))?;
        let Some(device) = device else {
            return Err(Distrust::Failed("the homeserver does not know this device's keys".to_owned()));
        };
        let published_keys = published_keys(client, api).await?;
        let own = own_master_key(client).await?;
        if published_keys.master.is_none() || published_keys.master != own {
            return Err(Distrust::Failed("the homeserver does not show the identity that is kept here".to_owned()));
        }
        if device.is_cross_signed_by_owner() && published_keys.signed {
            return Ok(());
        }
        device.verify().await.map_err(|error| Distrust::Failed(errors::clean(&error.to_string())))?;
        // Brings the signature back that was just uploaded.
        refresh(client).await?;
    }
    Err(Distrust::Failed("the homeserver took the signature and does not show it".to_owned()))
}

/// The public part of the identity in the SDK's store, as base64.
async fn own_master_key(client: &Client) -> Result<Option<String>, Distrust> {
    let user = client.user_id().ok_or_else(|| Distrust::Failed("not logged in".to_owned()))?;
    let identity = client.encryption().get_user_identity(user).await;
    let identity = identity.map_err(|error| Distrust::Failed(errors::clean(&error.to_string())))?;
    Ok(identity.and_then(|identity| identity.master_key().get_first_key()).map(|key| key.to_base64()))
}

/// A new recovery key, for secret storage (where the identity's private keys then lie) and the key backup.
async fn make_recovery(encryption: &Encryption) -> Result<NewKey, Distrust> {
    let recovery = encryption.recovery();
    let replaces = encryption.secret_storage().is_enabled().await.map_err(|error| Distrust::sdk(&error))?;
    let key = match recovery.enable().await {
        // Somebody else's; the identity is worth recovering all the same.
        Err(RecoveryError::BackupExistsOnServer) => recovery.reset_key().await,
        made => made,
    };
    let key = key.map(Secret::new).map_err(|error| Distrust::recovery(&error))?;
    Ok(NewKey { key, replaces })
}

/// Whether a configured key is the account's: on the day it is needed it is too late to find out.
async fn opens(encryption: &Encryption, key: &Secret) -> Result<(), Distrust> {
    let opened = encryption.secret_storage().open_secret_store(key.expose()).await;
    opened.map(drop).map_err(|error| Distrust::secret_storage(&error))
}
