//! The handlers of one connection, and when they wait for its client.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use hyper::{
    Request,
    body::{Body as _, Frame, Incoming, SizeHint},
};
use tokio::time::Instant;
use tower::Service;

use super::{answer::Answer, connection::Connection, misdirected, pool::ConnectionSlot, state::Front};

/// Marks each request of a connection with a reserved slot.
#[derive(Clone, Copy, Debug)]
pub struct Reserved;

/// A connection's service. It holds the connection's slot for as long as it lives.
#[derive(Clone)]
pub struct ConnectionService<S> {
    inner: S,
    front: Arc<Front>,
    connection: Arc<Connection>,
    place: Arc<ConnectionSlot>,
}

impl<S> ConnectionService<S> {
    pub fn new(inner: S, front: Arc<Front>, connection: Arc<Connection>, place: ConnectionSlot) -> Self {
        Self { inner, front, connection, place: Arc::new(place) }
    }
}

impl<S> Service<Request<Incoming>> for ConnectionService<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let (front, connection, place) =
            (Arc::clone(&self.front), Arc::clone(&self.connection), Arc::clone(&self.place));
        let posts = request.method() == Method::POST && misdirected::is_webhook(request.uri().path());
        let mut request =
            request.map(|body| Body::new(ClientBody { body, since: None, connection: Arc::clone(&connection) }));
        if connection.is_reserved() {
            request.extensions_mut().insert(Reserved);
        }
        let handled = self.inner.call(request);
        Box::pin(async move {
            // Not earlier: hyper reads the next request while the previous answer is unread.
            if !connection.begin() {
                return Ok(Answer::unavailable("too many connections").into_response());
            }
            let mut response = handled.await?;
            if connection.is_last() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            if posts && response.status() == StatusCode::OK {
                connection.has_posted();
            }
            let bytes = usize::try_from(response.body().size_hint().lower()).unwrap_or(usize::MAX);
            connection.answers(bytes);
            if place.limit_unread() && front.log_limits.unread.allows("", front.clock.now()) {
                tracing::warn!("unread answers take too much memory; closing idle connections");
            }
            Ok(response)
        })
    }
}

/// A request's body: while a handler reads it, the connection may wait for its client.
struct ClientBody {
    body: Incoming,
    since: Option<Instant>,
    connection: Arc<Connection>,
}

impl hyper::body::Body for ClientBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_pending() {
            let since = *self.since.get_or_insert_with(Instant::now);
            self.connection.wait(since);
        } else if !self.connection.begin() {
            // The connection was displaced, which is not an error of the body. Nobody waits for an answer, and the
            // handler is dropped with the connection.
            return Poll::Pending;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
