//! What Prometheus and others answer, and which series of it are shown.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{
    comparison::{Compared, Threshold},
    matrix,
    series::{Chosen, Point, Series, choose},
};
use crate::model::Labels;

fn labels(value: &Value) -> Labels {
    serde_json::from_value(value.clone()).unwrap()
}

fn answer(result: &Value) -> Vec<u8> {
    json!({"status": "success", "data": {"resultType": "matrix", "result": result}}).to_string().into_bytes()
}

fn points(of: &Value) -> Option<Vec<(f64, f64)>> {
    let body = answer(&json!([of]));
    let series = matrix::read(&body).unwrap().each().next().unwrap();
    series.map(|series| series.points.iter().map(|point| (point.at, point.value)).collect())
}

#[test]
fn points_are_read_leniently() {
    for (values, expected) in [
        (json!([[1.5, "2"], [2, "3.5"]]), Some(vec![(1.5, 2.0), (2.0, 3.5)])),
        (json!([["1", 2], [2, null]]), Some(vec![(1.0, 2.0)])),
        (json!([[1, "NaN"], [2, "+Inf"], [3, "-Inf"], [4, "1e3"], [5, "x"], [6, true]]), Some(vec![(4.0, 1000.0)])),
        (json!([[3, "3"], [1, "1"], [2, "2"], [1, "9"]]), Some(vec![(1.0, 9.0), (2.0, 2.0), (3.0, 3.0)])),
        (json!([["NaN", "1"]]), None),
        (json!([]), None),
        (json!(null), None),
        (json!({"a": 1}), None),
        (json!([[1]]), None),
        (json!([1, 2]), None),
        (json!([[1, [2]]]), None),
    ] {
        let series = json!({"metric": {"a": "b", "c": 5}, "values": values, "more": [{}]});
        assert_eq!(points(&series), expected, "{values}");
    }
    // Native histograms have no values that could be drawn; and what is not a series.
    for series in
        [json!({"metric": {}, "histograms": [[1, {}]]}), json!(5), json!([]), json!({"metric": 7, "values": [[1, 1]]})]
    {
        assert_eq!(points(&series), None, "{series}");
    }
}

#[test]
fn answers_that_are_none() {
    let long = format!(r#"{{"status":"error","error":"{}"}}"#, "x".repeat(9000));
    for (body, fault) in [
        ("", "the answer is not JSON of Prometheus"),
        ("<html>", "the answer is not JSON of Prometheus"),
        ("[]", "the answer is not JSON of Prometheus"),
        ("{}", "the answer is not JSON of Prometheus"),
        (r#"{"status":"success","data":[1]}"#, "the answer is not JSON of Prometheus"),
        (r#"{"status":"success"}"#, "the answer is of type \"\", expected a matrix"),
        (r#"{"status":"success","data":{"resultType":"streams","result":[]}}"#, "the answer is of type \"streams\""),
        (r#"{"status":"error","errorType":"timeout","error":"query timed out"}"#, "the query failed: query timed out"),
        (r#"{"status":"error"}"#, "the query failed: no reason given"),
        (&long, "the query failed: xxx"),
    ] {
        let found = matrix::read(body.as_bytes()).map(|_| ()).unwrap_err();
        assert!(found.starts_with(fault), "{body}: {found}");
    }
    let nothing = [json!(null), json!([])];
    assert!(nothing.iter().all(|result| matrix::read(&answer(result)).unwrap().each().next().is_none()));
    let deep = format!(r#"{{"status":"success","data":{}"#, "[".repeat(1_000_000));
    assert!(matrix::read(deep.as_bytes()).is_err());
}

#[test]
fn series_beyond_the_bound_are_counted() {
    let many: Vec<Value> = (0..6_000).map(|n| json!({"metric": {"n": n.to_string()}, "values": [[1, n]]})).collect();
    let body = answer(&json!(many));
    let rows = matrix::read(&body).unwrap();
    assert_eq!((rows.each().flatten().count(), rows.unread), (5_000, 1_000));
    let long: Vec<Value> = (0..20_000).map(|n| json!([n, "1"])).collect();
    assert_eq!(points(&json!({"metric": {}, "values": long})).unwrap().len(), 11_000);
}

fn series(own: &Value, values: &[f64]) -> Series {
    let points = values.iter().enumerate().map(|(at, value)| Point { at: at as f64, value: *value });
    Series::new(labels(own), points.collect())
}

fn chosen(all: &[(Value, f64)], firing: &[Value], line: Option<(Compared, f64)>) -> Chosen {
    let firing: Vec<Labels> = firing.iter().map(labels).collect();
    let threshold = line.map(|(compared, value)| Threshold { compared, value });
    choose(all.iter().map(|(own, value)| series(own, &[*value])), &firing, threshold)
}

fn names(chosen: &Chosen) -> Vec<&str> {
    chosen.series.iter().map(|shown| shown.name.as_str()).collect()
}

#[test]
fn firing_series_come_first_then_the_most_extreme() {
    let all: Vec<(Value, f64)> =
        (0..12).map(|n| (json!({"__name__": "x", "pod": format!("pod-{n}"), "ns": "a"}), f64::from(n))).collect();
    let firing = [
        json!({"alertname": "A", "pod": "pod-3", "ns": "a", "severity": "critical"}),
        json!({"alertname": "A", "pod": "pod-1", "ns": "a"}),
        json!({"alertname": "A", "pod": "pod-7", "ns": "b"}),
    ];
    let found = chosen(&all, &firing, None);
    assert_eq!(names(&found), ["pod-3", "pod-1", "pod-11", "pod-10", "pod-9", "pod-8", "pod-7", "pod-6"]);
    assert_eq!(found.series.iter().filter(|shown| shown.fires).count(), 2);
    assert_eq!(found.others, 4);
    for (compared, value, first) in [
        (Compared::Above, 5.0, "pod-11"),
        (Compared::Below, 5.0, "pod-0"),
        (Compared::Equal, 4.0, "pod-4"),
        (Compared::NotEqual, 9.0, "pod-0"),
    ] {
        assert_eq!(names(&chosen(&all, &[], Some((compared, value))))[0], first, "{compared:?}");
    }
    // A label that the alert lacks, as a replica's, does not hide the series; one that it contradicts does.
    let replicas = [
        (json!({"pod": "one", "replica": "0"}), 1.0),
        (json!({"pod": "two", "replica": "0"}), 2.0),
        (json!({"pod": "three"}), 9.0),
    ];
    let found = chosen(&replicas, &[json!({"pod": "one", "alertname": "A"})], None);
    assert_eq!((names(&found)[0], found.series[0].fires), ("one", false));
    assert!(chosen(&[(json!({}), 1.0)], &[json!({"alertname": "A"})], None).series[0].fires);
}

#[test]
fn names_are_what_tells_series_apart() {
    for (all, expected) in [
        (vec![json!({"__name__": "up", "job": "a", "instance": "b:1"})], vec!["b:1"]),
        (vec![json!({"__name__": "up", "job": "api"})], vec!["api"]),
        (vec![json!({"__name__": "up"})], vec![""]),
        (vec![json!({})], vec![""]),
        (vec![json!({"cpu": "3"})], vec!["cpu=3"]),
        (vec![json!({"job": "a", "pod": "one"}), json!({"job": "a", "pod": "two"})], vec!["one", "two"]),
        // Of several that would do, the one that people know.
        (
            vec![
                json!({"instance": "10.0.0.1:9100", "pod": "one", "uid": "6"}),
                json!({"instance": "10.0.0.2:9100", "pod": "two", "uid": "7"}),
            ],
            vec!["one", "two"],
        ),
        // None does alone.
        (
            vec![
                json!({"pod": "one", "code": "500"}),
                json!({"pod": "one", "code": "503"}),
                json!({"pod": "two", "code": "500"}),
            ],
            vec!["one code=500", "one code=503", "two code=500"],
        ),
        (vec![json!({"cpu": "0"}), json!({"cpu": "1"})], vec!["cpu=0", "cpu=1"]),
        (vec![json!({"a": "long"}), json!({"a": ""}), json!({})], vec!["long", "no a", "no a"]),
        (vec![json!({"__name__": "alpha"}), json!({"__name__": "beta"})], vec!["alpha", "beta"]),
        (vec![json!({"a": "x"}), json!({"a": "x"})], vec!["", ""]),
        (vec![json!({"a": "one\u{202e}\n"}), json!({"a": "two"})], vec!["one ", "two"]),
    ] {
        let given: Vec<(Value, f64)> = all.iter().map(|own| (own.clone(), 1.0)).collect();
        assert_eq!(names(&chosen(&given, &[], None)), expected, "{all:?}");
    }
    let long = chosen(&[(json!({"a": "x".repeat(4_000)}), 1.0)], &[], None);
    assert!(long.series[0].name.chars().count() <= 81);
}

proptest! {
    #[test]
    fn no_answer_panics(body in "[\\[\\]{}\",:0-9a-z ]{0,60}", value in any::<f64>()) {
        let _ = matrix::read(body.as_bytes()).map(|rows| rows.each().count());
        let _ = points(&json!({"metric": {}, "values": [[value, value.to_string()]]}));
    }
}
