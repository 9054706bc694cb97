//! The proxy's connections: read a request, choose its fate, ask the homeserver or not.

use std::{convert::Infallible, future::pending, sync::Arc};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, HeaderName, Request, Response, StatusCode, header, request::Parts},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    Exchange, Fault, Held, Outcome, Shared,
    exchange::{Entry, Upstream},
    fault::Reply,
};
use crate::harness::http::client;

/// Why a connection is closed without an answer: hyper sends nothing for a service that fails.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut")
    }
}

impl std::error::Error for Cut {}

/// Serves until it is dropped, and all its connections with it.
pub(super) async fn accept_all(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                connections.spawn(serve(stream, shared.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request| handle(shared.clone(), request));
    // An error is a connection that ended otherwise than in order, which is what this is for.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Cut> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(Body::new(body), usize::MAX).await.map_err(|_| Cut)?;
    let exchange = Exchange::new(parts.method.clone(), parts.uri.path(), parts.uri.query().unwrap_or_default(), &body);
    let fault = shared.rules.lock().unwrap_or_else(std::sync::PoisonError::into_inner).choose(&exchange);
    let entry = shared.record.add(exchange);
    let answer = meet(&shared, fault, &entry, parts, body).await;
    entry.end(answer.as_ref().map_or(Outcome::Cut, |answer| Outcome::Answered(answer.status().as_u16())));
    answer
}

async fn meet(
    shared: &Arc<Shared>,
    fault: Fault,
    entry: &Entry,
    parts: Parts,
    body: Bytes,
) -> Result<Response<Body>, Cut> {
    let ask = forward(shared.target.clone(), entry.upstream(), parts, body);
    match fault {
        Fault::Pass => ask.await,
        Fault::Delay(wait) => {
            tokio::time::sleep(wait).await;
            ask.await
        }
        Fault::Late(wait) => {
            let late = async move {
                tokio::time::sleep(wait).await;
                ask.await
            };
            tokio::spawn(late).await.map_err(|_| Cut)?
        }
        Fault::Cut => Err(Cut),
        Fault::Hang => never().await,
        Fault::Respond(reply) => Ok(response(&reply)),
        Fault::CutAfter => {
            ask.await?;
            Err(Cut)
        }
        Fault::CutAt(patience) => tokio::time::timeout(patience, ask).await.map_err(|_| Cut)?,
        Fault::HangAfter => {
            ask.await?;
            never().await
        }
        Fault::RespondAfter(reply) => {
            ask.await?;
            Ok(response(&reply))
        }
        Fault::Hold(holder) => {
            let answer = ask.await?;
            let (held, verdict) = Held::new(entry.now());
            let _ = holder.send(held);
            // A test that dropped it does not care any more: pass it on.
            if verdict.await.unwrap_or(true) { Ok(answer) } else { Err(Cut) }
        }
    }
}

async fn never() -> ! {
    let never: Infallible = pending().await;
    match never {}
}

/// Asks the homeserver, to the end even if the receiver goes away meanwhile: a request that has left is not called back.
async fn forward(target: String, upstream: Upstream, parts: Parts, body: Bytes) -> Result<Response<Body>, Cut> {
    let asking = tokio::spawn(async move {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = parts.headers;
        drop_connection_headers(&mut headers);
        let request = client().request(parts.method, format!("{target}{path}")).headers(headers).body(body);
        // Above the longest poll for news.
        let answer = request.timeout(std::time::Duration::from_mins(2)).send().await.map_err(|_| Cut)?;
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.map_err(|_| Cut)?;
        upstream.answered(status.as_u16(), &body);
        drop_connection_headers(&mut headers);
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    });
    asking.await.map_err(|_| Cut)?
}

/// What belongs to one connection, and what hyper computes again.
fn drop_connection_headers(headers: &mut HeaderMap) {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::HOST] {
        headers.remove(name);
    }
}

fn response(reply: &Reply) -> Response<Body> {
    let mut response = Response::new(Body::from(reply.body.clone()));
    *response.status_mut() = StatusCode::from_u16(reply.status).expect("an HTTP status");
    for (name, value) in &reply.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        response.headers_mut().append(name, value.parse().expect("a header value"));
    }
    response
}
