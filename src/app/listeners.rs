//! The listening sockets: bound first, served by turns before and after the store is open.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    http::{self, App, Front, HttpListener, Routes, Side, Tls},
};

/// Sockets that are bound and not served yet.
pub struct Listeners {
    main: HttpListener,
    /// That of `http.admin`.
    admin: Option<HttpListener>,
}

impl Listeners {
    /// # Errors
    /// When an address cannot be bound.
    pub fn bind(config: &Config, tls: Option<Tls>) -> anyhow::Result<Self> {
        let main = bind("http.listen", config.http.listen)?.with_tls(tls);
        let admin = config.http.admin.as_ref().map(|admin| bind("http.admin.listen", admin.listen)).transpose()?;
        Ok(Self { main, admin })
    }

    /// Serves everything, or without an `app`, whose store is not open yet, answers 503.
    pub fn serve(self, front: &Arc<Front>, app: Option<&Arc<App>>) -> Serving {
        let routes = |side| {
            let routes = Routes::waiting(front, side);
            app.inspect(|app| routes.open(app, side));
            routes
        };
        let side = Side::Main { address: self.main.address, has_admin: self.admin.is_some() };
        let (stop, address) = (CancellationToken::new(), self.main.address);
        let main = (side, routes(side));
        let admin = self.admin.map(|listener| {
            let routes = routes(Side::Admin);
            tokio::spawn(serve_admin(listener, Arc::clone(front), routes.clone(), stop.clone()));
            (Side::Admin, routes)
        });
        let served = tokio::spawn(self.main.serve(Arc::clone(front), side, main.1.clone(), stop.clone()));
        Serving { address, routes: std::iter::once(main).chain(admin).collect(), served, stop }
    }
}

/// A single replica's sockets are served once all is ready, so that whoever connects earlier waits; with a database that
/// may be away for long they are answered at once.
pub enum Sockets {
    Bound(Box<Listeners>),
    Served(Serving),
}

impl Sockets {
    /// Serves everything from now on.
    pub fn open(self, front: &Arc<Front>, app: &Arc<App>) -> Serving {
        match self {
            Self::Bound(listeners) => listeners.serve(front, Some(app)),
            Self::Served(serving) => {
                for (side, routes) in &serving.routes {
                    routes.open(app, *side);
                }
                serving
            }
        }
    }

    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Bound(listeners) => listeners.main.address,
            Self::Served(serving) => serving.address,
        }
    }
}

/// Sockets that are served.
pub struct Serving {
    address: SocketAddr,
    routes: Vec<(Side, Routes)>,
    /// Ends when `http.listen` cannot be served, or after the stop.
    served: JoinHandle<std::io::Result<()>>,
    stop: CancellationToken,
}

impl Serving {
    /// Ends only if `http.listen` cannot be served.
    pub async fn fails(&mut self) -> anyhow::Error {
        match (&mut self.served).await.context("the HTTP side ended") {
            Ok(served) => served.map_or_else(anyhow::Error::new, |()| anyhow::anyhow!("it stopped")),
            Err(error) => error,
        }
        .context("the HTTP side failed")
    }

    /// Lets requests in flight finish.
    ///
    /// # Errors
    /// When the socket could not be served.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.served.await.context("the HTTP side ended")?.context("the HTTP side failed")
    }
}

fn bind(key: &str, address: SocketAddr) -> anyhow::Result<HttpListener> {
    http::bind(address).with_context(|| format!("{key}: cannot listen on {address}"))
}

/// Serves the status page. Alerts matter more: the receiver runs on if the listener fails.
async fn serve_admin(bound: HttpListener, front: Arc<Front>, routes: Routes, stop: CancellationToken) {
    tracing::info!(listen = %bound.address, "status page listening");
    if !bound.address.ip().to_canonical().is_loopback() {
        tracing::warn!(listen = %bound.address, "http.admin sends its password over plain HTTP");
    }
    if let Err(error) = bound.serve(front, Side::Admin, routes, stop).await {
        tracing::warn!(%error, "status page listener failed");
    }
}
