use std::io;

use matrix_sdk::ruma::{
    api::{EndpointError, error::DeserializationError},
    exports::http as web,
};

use super::*;

/// An answer as the network delivers it.
fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> ApiError {
    let mut response = web::Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    ApiError::from_response(&ErrorResponse::from_http_response(response.body(body.as_bytes().to_vec()).unwrap()))
}

fn matrix(status: u16, errcode: &str) -> ApiError {
    answer(status, &[], &format!(r#"{{"errcode":"{errcode}","error":"words"}}"#))
}

#[test]
fn statuses_and_codes() {
    use Reason as R;
    let table = [
        (429, "M_LIMIT_EXCEEDED", R::RateLimited),
        (429, "M_UNKNOWN", R::RateLimited),
        (400, "M_LIMIT_EXCEEDED", R::RateLimited),
        (401, "M_UNKNOWN_TOKEN", R::TokenRejected),
        (401, "M_MISSING_TOKEN", R::TokenRejected),
        (401, "M_UNAUTHORIZED", R::TokenRejected),
        (401, "M_FORBIDDEN", R::TokenRejected),
        (403, "M_UNKNOWN_TOKEN", R::TokenRejected),
        (401, "M_USER_LOCKED", R::AccountRefused),
        (403, "M_USER_SUSPENDED", R::AccountRefused),
        (403, "M_USER_DEACTIVATED", R::AccountRefused),
        (403, "M_CONSENT_NOT_GIVEN", R::AccountRefused),
        (403, "M_FORBIDDEN", R::RoomRefused),
        (404, "M_NOT_FOUND", R::RoomRefused),
        (403, "M_GUEST_ACCESS_FORBIDDEN", R::RoomRefused),
        (403, "ORG.EXAMPLE.POLICY", R::RoomRefused),
        (400, "M_UNSUPPORTED_ROOM_VERSION", R::RoomRefused),
        (413, "M_TOO_LARGE", R::TooLarge),
        (400, "M_TOO_LARGE", R::TooLarge),
        (413, "M_UNKNOWN", R::TooLarge),
        (403, "M_RESOURCE_LIMIT_EXCEEDED", R::ServerError),
        (404, "M_UNRECOGNIZED", R::ServerError),
        (405, "M_UNRECOGNIZED", R::ServerError),
        (400, "M_UNRECOGNIZED", R::BadEvent),
        (408, "M_UNKNOWN", R::ServerError),
        (500, "M_UNKNOWN", R::ServerError),
        (502, "M_FORBIDDEN", R::ServerError),
        (503, "M_TOO_LARGE", R::ServerError),
        (400, "M_BAD_JSON", R::BadEvent),
        (400, "M_NOT_JSON", R::BadEvent),
        (400, "M_UNKNOWN", R::BadEvent),
        (400, "M_INVALID_PARAM", R::BadEvent),
        (400, "M_DUPLICATE_ANNOTATION", R::BadEvent),
    ];
    for (status, errcode, reason) in table {
        let failed = matrix(status, errcode);
        assert_eq!(failed.error.reason, reason, "{status} {errcode}");
        assert!(failed.error.detail.starts_with(&format!("{status} {errcode}: words")), "{}", failed.error.detail);
    }
}

#[test]
fn answers_that_are_not_matrix_say_nothing_about_the_event() {
    let table = [
        (400, Reason::ServerError),
        (401, Reason::ServerError),
        (403, Reason::ServerError),
        (404, Reason::ServerError),
        (405, Reason::ServerError),
        (413, Reason::TooLarge),
        (429, Reason::RateLimited),
        (502, Reason::ServerError),
        (520, Reason::ServerError),
    ];
    for (status, reason) in table {
        for body in ["<html>nginx</html>", "", "{}", "[1]"] {
            let failed = answer(status, &[], body);
            assert_eq!(failed.error.reason, reason, "{status} {body}");
            assert!(!failed.error.detail.contains("nginx"));
        }
    }
}

#[test]
fn a_code_counts_although_the_sdk_misses_a_field() {
    assert_eq!(answer(403, &[], r#"{"errcode":"M_FORBIDDEN"}"#).error.detail, "403 M_FORBIDDEN");
    let limit = answer(403, &[], r#"{"errcode":"M_RESOURCE_LIMIT_EXCEEDED","error":"full"}"#);
    assert_eq!(limit.error.reason, Reason::ServerError);
    let rate = answer(429, &[], r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":1500}"#);
    assert_eq!(rate.error.retry_after, Some(Duration::from_millis(1500)));
}

#[test]
fn how_long_to_wait() {
    let body = r#"{"errcode":"M_LIMIT_EXCEEDED","error":"slow","retry_after_ms":4384}"#;
    let wait = |headers: &[(&str, &str)], body: &str| answer(429, headers, body).error.retry_after;
    assert_eq!(wait(&[], body), Some(Duration::from_millis(4384)));
    assert_eq!(wait(&[("Retry-After", "5")], body), Some(Duration::from_secs(5)));
    assert_eq!(wait(&[("Retry-After", "soon")], body), Some(Duration::from_millis(4384)));
    assert_eq!(wait(&[("Retry-After", "Wed, 21 Oct 2037 07:28:00 GMT")], body), None);
    assert_eq!(wait(&[("Retry-After", "99999999")], body), Some(MAX_RETRY_AFTER));
    assert_eq!(wait(&[], "<html>"), None);
}

#[test]
fn how_long_a_header_or_an_odd_number_says() {
    let of = |headers: &[(&str, &str)]| {
        let mut map = web::HeaderMap::new();
        for (name, value) in headers {
            map.insert(web::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        retry_after_in_headers(&map)
    };
    let date = ("date", "Wed, 21 Oct 2037 07:28:00 GMT");
    assert_eq!(of(&[]), None);
    assert_eq!(of(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
    assert_eq!(of(&[("retry-after", "-7")]), Some(Duration::ZERO));
    assert_eq!(of(&[("retry-after", "soon")]), None);
    assert_eq!(of(&[("retry-after", "Wed, 21 Oct 2037 07:28:09 GMT"), date]), Some(Duration::from_secs(9)));
    assert_eq!(of(&[("retry-after", "Wed, 21 Oct 2037 07:27:00 GMT"), date]), Some(Duration::ZERO));
    assert_eq!(of(&[("retry-after", "Thu, 22 Oct 2037 07:28:00 GMT"), date]), Some(MAX_RETRY_AFTER));
    assert_eq!(of(&[("retry-after", "Wed, 21 Oct 2037 07:28:09 GMT")]), None, "by whose clock?");

    let wait = |ms: &str| {
        answer(429, &[], &format!(r#"{{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":{ms}}}"#)).error.retry_after
    };
    assert_eq!(wait("1500.5"), Some(Duration::from_micros(1_500_500)));
    assert_eq!(wait("\"1500\""), Some(Duration::from_millis(1500)));
    assert_eq!((wait("-1"), wait("0")), (Some(Duration::ZERO), Some(Duration::ZERO)));
    assert_eq!((wait("1e300"), wait("null")), (Some(MAX_RETRY_AFTER), None));
}

#[test]
fn the_homeservers_text_is_bounded_and_one_line() {
    let body = format!(r#"{{"errcode":"M_UNKNOWN","error":"a\nb\u001b[31m{}"}}"#, "é".repeat(1000));
    let detail = answer(400, &[], &body).error.detail;
    assert!(detail.starts_with("400 M_UNKNOWN: a b [31m"));
    assert_eq!(detail.chars().count(), MAX_TEXT + 1);
    assert!(detail.ends_with('…'));
}

#[test]
fn a_success_without_an_event_id_is_unreadable() {
    let error = DeserializationError::Json(serde_json::from_str::<u8>("<html>").unwrap_err());
    let error = HttpError::Api(Box::new(FromHttpResponseError::Deserialization(error)));
    assert_eq!(ApiError::from_http(&error).error.reason, Reason::Unreadable);
    assert_eq!(ApiError::from_http(&HttpError::Cached(error.into())).error.reason, Reason::Unreadable);
}

#[test]
fn errors_on_this_side() {
    use matrix_sdk::Error;
    assert_eq!(ApiError::from_sdk(&Error::NoOlmMachine).error.reason, Reason::KeysNotReady);
    assert_eq!(ApiError::from_sdk(&Error::Io(io::Error::other("disk"))).error.reason, Reason::NotReady);
    assert_eq!(ApiError::from_sdk(&Error::Timeout).error.reason, Reason::NoAnswer);
    assert_eq!(ApiError::from_sdk(&Error::AuthenticationRequired).error.reason, Reason::NotReady);
}

#[test]
fn a_failed_join_is_the_rooms_own_unless_clearly_not() {
    let reason = |error: ApiError| error.for_join().reason;
    assert_eq!(reason(matrix(403, "M_FORBIDDEN")), Reason::RoomRefused);
    assert_eq!(reason(matrix(404, "M_NOT_FOUND")), Reason::RoomRefused);
    // The other server is down, not ours.
    assert_eq!(reason(matrix(502, "M_UNKNOWN")), Reason::RoomRefused);
    assert_eq!(reason(matrix(429, "M_LIMIT_EXCEEDED")), Reason::JoinLimited);
    assert_eq!(reason(matrix(400, "M_BAD_JSON")), Reason::RoomRefused);
    assert_eq!(reason(answer(502, &[], "<html>")), Reason::ServerError);
    assert_eq!(reason(matrix(403, "M_RESOURCE_LIMIT_EXCEEDED")), Reason::ServerError);
    assert_eq!(reason(matrix(401, "M_UNKNOWN_TOKEN")), Reason::TokenRejected);
    assert_eq!(reason(matrix(403, "M_CONSENT_NOT_GIVEN")), Reason::AccountRefused);
    assert_eq!(matrix(403, "M_FORBIDDEN").for_join().detail, "not joined: 403 M_FORBIDDEN: words");
    let rate = answer(429, &[], r#"{"errcode":"M_LIMIT_EXCEEDED","error":"slow","retry_after_ms":9000}"#);
    assert_eq!(rate.for_join().retry_after, Some(Duration::from_secs(9)));
}

#[tokio::test]
async fn the_network() {
    let client = reqwest::Client::builder().timeout(Duration::from_millis(200)).build().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("http://user:secret@127.0.0.1:{port}/?access_token=secret");

    let error = client.get(&url).send().await.unwrap_err();
    let silent = ApiError::from_network(&error).error;
    assert_eq!((silent.reason, silent.detail.as_str()), (Reason::NoAnswer, "no answer in time"));

    let cut = tokio::spawn(async move {
        for _ in 0..8 {
            drop(listener.accept().await.unwrap());
        }
    });
    let broken = ApiError::from_network(&client.get(&url).send().await.unwrap_err()).error;
    assert_eq!(broken.reason, Reason::NoAnswer, "{broken}");
    cut.abort();
    let _ = cut.await;

    let refused = ApiError::from_network(&client.get(&url).send().await.unwrap_err()).error;
    assert_eq!(refused.reason, Reason::Unreachable, "{refused}");
    assert!(refused.detail.starts_with("cannot connect: tcp connect error: Connection refused"), "{refused}");
    for text in [silent.detail, broken.detail, refused.detail] {
        assert!(!text.contains("secret"), "{text}");
    }
}
