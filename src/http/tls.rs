//! TLS for the webhook: the handshake, and a watch over the certificate's files.

use std::{future::Future, io, pin::Pin, sync::Arc, time::Duration};

use axum_server::{
    accept::Accept,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use rustls::InvalidMessage;
use tokio::{net::TcpStream, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{
    admission::Admission,
    certificate::{Hash, Misfit, Pair},
    state::Front,
};
use crate::{
    clock::Clock,
    config,
    file_watch::{Change, FileWatch, Fingerprint},
    health::{Age, Certificate, Health},
    metrics::Metrics,
    model::Timestamp,
    pacing::LogLimit,
};

/// A client that has not agreed on TLS by then is disconnected. Not longer than others wait for a slot, so that queued
/// clients still get one behind a crowd of silent ones.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The pair that new connections get.
#[derive(Clone, Debug)]
pub struct Tls {
    files: config::Tls,
    served: Served,
    pair: Pair,
}

/// Shared with the acceptor, which takes what is in it for each new connection.
#[derive(Clone)]
struct Served(RustlsConfig);

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Served")
    }
}

impl Tls {
    /// Reads the files; blocks for as long as that takes.
    ///
    /// # Errors
    /// As [`Pair::load`].
    pub fn load(files: &config::Tls) -> Result<Self, Misfit> {
        let pair = Pair::load(files)?;
        let served = Served(RustlsConfig::from_config(Arc::clone(&pair.config)));
        Ok(Self { files: files.clone(), served, pair })
    }

    pub(super) fn acceptor(self, admission: Admission, front: &Arc<Front>) -> Handshakes {
        let inner = RustlsAcceptor::new(self.served.0).handshake_timeout(HANDSHAKE_TIMEOUT).acceptor(admission);
        Handshakes { inner, front: Arc::clone(front), log_limit: Arc::default() }
    }

    /// Looks at the files until `stop`, and serves what they hold if it is good.
    pub async fn watch(self, clock: Clock, metrics: Arc<Metrics>, health: Arc<Health>, stop: CancellationToken) {
        let mut watch = Watch {
            files: self.files,
            served: self.served,
            pair: self.pair,
            refused: None,
            age: Age::Good,
            metrics,
            health,
        };
        watch.publish(None);
        let mut file_watch = FileWatch::new(Fingerprint::default(), LOOK);
        loop {
            watch.tell_age(clock.wall());
            tokio::select! {
                () = stop.cancelled() => return,
                () = file_watch.due() => {}
            }
            let paths = vec![watch.files.cert_file.clone(), watch.files.key_file.clone()];
            match file_watch.look(paths.clone()).await {
                Change::Settled => file_watch.mark_read(paths).await,
                // A refused certificate may have become valid with time.
                Change::None if watch.refused.is_some() => {}
                Change::None | Change::Unsettled => continue,
            }
            let files = watch.files.clone();
            if let Ok(found) = spawn_blocking(move || Pair::load(&files)).await {
                watch.consider(found, clock.wall());
            }
        }
    }
}

struct Watch {
    files: config::Tls,
    served: Served,
    pair: Pair,
    /// The content that was refused last, and reported.
    refused: Option<Hash>,
    age: Age,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

impl Watch {
    fn consider(&mut self, found: Result<Pair, Misfit>, now: Timestamp) {
        let (hash, fault, shown) = match found {
            Ok(pair) if pair.hash == self.pair.hash => return self.as_it_was(),
            Ok(pair) if in_time(&pair, now) || !in_time(&self.pair, now) => return self.take(pair),
            Ok(pair) => {
                let fault = "http.tls.cert_file: is out of its time, and the one in use is not".to_owned();
                (pair.hash, fault.clone(), fault)
            }
            Err(misfit) => (misfit.hash, misfit.to_string(), misfit.without_path()),
        };
        if self.refused.replace(hash) != Some(hash) {
            tracing::warn!(
                fault, in_use_until = %moment(self.pair.not_after),
                "the new certificate is refused, the one in use stays"
            );
            self.publish(Some(shown));
        }
    }

    fn take(&mut self, pair: Pair) {
        self.served.0.reload_from_config(Arc::clone(&pair.config));
        tracing::info!(
            not_after = %moment(pair.not_after), cert_file = %self.files.cert_file.display(),
            "a new certificate is in use"
        );
        self.pair = pair;
        self.refused = None;
        self.publish(None);
    }

    fn as_it_was(&mut self) {
        if self.refused.take().is_some() {
            tracing::info!("the certificate's files hold the pair in use again");
            self.publish(None);
        }
    }

    fn publish(&self, refused: Option<String>) {
        self.metrics.tls.certificate(self.pair.not_after, refused.is_none());
        let certificate = Certificate { refused, ..self.pair.certificate() };
        self.health.update(|health| health.certificate = Some(certificate));
    }

    /// Once for each stage of its life, also at start.
    fn tell_age(&mut self, now: Timestamp) {
        let age = self.pair.certificate().age(now);
        if std::mem::replace(&mut self.age, age) == age {
            return;
        }
        let (file, not_after) = (self.files.cert_file.display(), moment(self.pair.not_after));
        match age {
            Age::Good => {}
            Age::EndsSoon => tracing::warn!(cert_file = %file, %not_after, "the certificate ends soon"),
            Age::Ended => {
                tracing::warn!(cert_file = %file, %not_after, "the certificate has ended: clients will refuse it");
            }
            Age::NotYet => tracing::warn!(
                cert_file = %file, not_before = %moment(self.pair.not_before),
                "the certificate is not valid yet: clients will refuse it"
            ),
        }
    }
}

fn in_time(pair: &Pair, now: Timestamp) -> bool {
    (pair.not_before..pair.not_after).contains(&now)
}

fn moment(at: Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::MAX)
}

/// Gives a connection its slot, then performs the handshake: a silent client holds a slot for [`HANDSHAKE_TIMEOUT`].
#[derive(Clone)]
pub struct Handshakes {
    inner: RustlsAcceptor<Admission>,
    front: Arc<Front>,
    log_limit: Arc<LogLimit>,
}

impl<S: Send + 'static> Accept<TcpStream, S> for Handshakes {
    type Stream = <RustlsAcceptor<Admission> as Accept<TcpStream, S>>::Stream;
    type Service = <RustlsAcceptor<Admission> as Accept<TcpStream, S>>::Service;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let (handshake, own) = (self.inner.accept(stream, service), self.clone());
        Box::pin(async move { handshake.await.inspect_err(|error| own.failed(error)) })
    }
}

impl Handshakes {
    fn failed(&self, error: &io::Error) {
        let Some((reason, advice)) = why(error) else { return };
        self.front.metrics.tls.handshakes_failed.with_label_values(&[reason]).inc();
        // Load balancers check whether the port is open; that is not worth a log line.
        if reason != "closed" && self.log_limit.allows("", self.front.clock.now()) {
            tracing::warn!(reason, advice, %error, "TLS handshake failed");
        }
    }
}

/// A reason of a closed set, and what to do; `None` if the error is not about the handshake.
fn why(error: &io::Error) -> Option<(&'static str, &'static str)> {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    Some(match (error.kind(), tls) {
        (io::ErrorKind::TimedOut, _) => ("timeout", "client sent nothing in time"),
        (_, Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType))) => {
            ("not_tls", "client does not speak TLS; use https in its URL")
        }
        (_, Some(rustls::Error::AlertReceived(_))) => {
            ("not_trusted", "client rejected the certificate; check its ca_file")
        }
        (_, Some(_)) => ("other", "client and receiver share no TLS version or cipher"),
        (io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe, None) => {
            ("closed", "")
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use rustls::server::ResolvesServerCertUsingSni;

    use super::*;

    /// One without a certificate: what is tested asks only for its content and its time.
    fn pair(content: u8, not_before: i64, not_after: i64) -> Pair {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        let (not_before, not_after) = (Timestamp(not_before), Timestamp(not_after));
        Pair { config: Arc::new(config), not_before, not_after, hash: [content; 32] }
    }

    fn watch(pair: Pair) -> Watch {
        Watch {
            files: config::Tls { cert_file: "cert".into(), key_file: "key".into() },
            served: Served(RustlsConfig::from_config(Arc::clone(&pair.config))),
            pair,
            refused: None,
            age: Age::Good,
            metrics: Arc::new(Metrics::new(&[], &[], "", "")),
            health: Arc::new(Health::new(&[])),
        }
    }

    #[test]
    fn a_refusal_is_remembered_until_the_pair_in_use_is_back() {
        let mut watch = watch(pair(1, 0, 100));
        let old = pair(2, 0, 10);
        for (found, refused) in [
            (&old, Some([2; 32])),
            (&old, Some([2; 32])),
            (&pair(3, 0, 10), Some([3; 32])),
            (&pair(1, 0, 100), None),
            (&old, Some([2; 32])),
        ] {
            watch.consider(Ok(found.clone()), Timestamp(50));
            assert_eq!((watch.refused, watch.pair.hash), (refused, [1; 32]));
        }
    }

    #[test]
    fn out_of_its_time_is_better_than_nothing_only() {
        for (found, now, taken) in [
            (pair(2, 0, 200), 50, true),
            (pair(2, 0, 40), 50, false),
            (pair(2, 60, 200), 50, false),
            (pair(2, 60, 200), 60, true),
            (pair(2, 0, 40), 150, true),
        ] {
            let mut watch = watch(pair(1, 0, 100));
            watch.consider(Ok(found), Timestamp(now));
            assert_eq!(watch.pair.hash == [2; 32], taken, "at {now}");
            let served = watch.served.0.get_inner();
            assert!(Arc::ptr_eq(&served, &watch.pair.config), "what is served is what is said to be");
        }
    }
}
