//! What the numbers of an expression count: guessed from the names of metrics, which follow Prometheus' conventions
//! (<https://prometheus.io/docs/practices/naming/>), and from what the expression does with them.

use promql_parser::parser::{BinaryExpr, Call, Expr, VectorSelector, token};

use super::comparison::folded;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Unit {
    #[default]
    Plain,
    Bytes,
    BytesPerSecond,
    Seconds,
    /// Of something per second.
    PerSecond,
    /// Shown as per cent while it is about 0 to 1.
    Ratio,
    Percent,
}

/// What the tree of an expression gives; `None` is an extension of PromQL.
pub(super) fn of(expr: Option<&Expr>) -> Unit {
    match expr.map(guess) {
        Some(Guess::Unit(unit)) => unit,
        None | Some(Number(_) | Count | Instant | Share) => Unit::Plain,
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Guess {
    Unit(Unit),
    Number(f64),
    /// How many there are, such as the events of a histogram.
    Count,
    /// Seconds since 1970.
    Instant,
    /// Seconds per second, such as CPUs.
    Share,
}

use Guess::{Count, Instant, Number, Share};
const PLAIN: Guess = Guess::Unit(Unit::Plain);
const BYTES: Guess = Guess::Unit(Unit::Bytes);
const BYTES_PER_SECOND: Guess = Guess::Unit(Unit::BytesPerSecond);
const SECONDS: Guess = Guess::Unit(Unit::Seconds);
const PER_SECOND: Guess = Guess::Unit(Unit::PerSecond);
const RATIO: Guess = Guess::Unit(Unit::Ratio);
const PERCENT: Guess = Guess::Unit(Unit::Percent);

fn guess(expr: &Expr) -> Guess {
    if let Some(number) = folded(expr) {
        return Number(number);
    }
    match expr {
        Expr::Paren(inner) => guess(&inner.expr),
        Expr::Unary(inner) => guess(&inner.expr),
        Expr::Subquery(inner) => guess(&inner.expr),
        Expr::VectorSelector(selector) => of_selector(selector),
        Expr::MatrixSelector(selector) => of_selector(&selector.vs),
        Expr::Aggregate(aggregate) => match aggregate.op.id() {
            token::T_COUNT => Count,
            token::T_COUNT_VALUES | token::T_GROUP | token::T_STDVAR => PLAIN,
            _ => guess(&aggregate.expr),
        },
        Expr::Call(call) => of_call(call),
        Expr::Binary(binary) => of_binary(binary),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => PLAIN,
    }
}

fn of_selector(selector: &VectorSelector) -> Guess {
    let name = selector.name.as_deref().unwrap_or_default();
    // A recording rule is level:metric:operations.
    let mut parts = name.rsplit(':');
    let first = parts.next().unwrap_or_default();
    let Some(metric) = parts.next().filter(|_| of_metric(first) == PLAIN) else { return of_metric(first) };
    let done = |operation: &str| first.split('_').any(|word| word.starts_with(operation));
    if done("ratio") {
        RATIO
    } else if done("rate") || done("irate") {
        per_second(of_metric(metric))
    } else if done("count") {
        Count
    } else {
        of_metric(metric)
    }
}

fn of_metric(name: &str) -> Guess {
    const INSTANTS: [&str; 6] =
        ["_timestamp_seconds", "_timestamp", "_time_seconds", "_created", "_start_time", "_cert_expiry"];
    const SUFFIXES: [(&str, Guess); 9] = [
        ("_bytes", BYTES),
        ("_byte", BYTES),
        ("_seconds", SECONDS),
        ("_second", SECONDS),
        ("_ratio", RATIO),
        ("_percent", PERCENT),
        ("_percentage", PERCENT),
        ("bytes", BYTES),
        ("seconds", SECONDS),
    ];
    if name.ends_with("_count") {
        return Count;
    }
    let name = ["_total", "_sum", "_bucket"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    if INSTANTS.iter().any(|end| name.ends_with(end)) {
        return Instant;
    }
    SUFFIXES.iter().find(|(end, _)| name.ends_with(end)).map_or(PLAIN, |(_, guess)| *guess)
}

fn per_second(guess: Guess) -> Guess {
    match guess {
        BYTES => BYTES_PER_SECOND,
        SECONDS => Share,
        Instant => PLAIN,
        PLAIN | Count => PER_SECOND,
        other => other,
    }
}

fn of_call(call: &Call) -> Guess {
    let args = &call.args.args;
    let first = || args.first().map_or(PLAIN, |arg| guess(arg));
    match call.func.name {
        "rate" | "irate" | "deriv" => per_second(first()),
        "time" | "timestamp" => Instant,
        "histogram_quantile" => args.get(1).map_or(PLAIN, |buckets| per_event(guess(buckets))),
        "histogram_avg" => per_event(first()),
        "quantile_over_time" => args.get(1).map_or(PLAIN, |arg| guess(arg)),
        // What becomes of an instant in these is a number of seconds.
        "increase" | "delta" | "idelta" | "stddev_over_time" => match first() {
            Instant => SECONDS,
            other => other,
        },
        "abs"
        | "avg_over_time"
        | "ceil"
        | "clamp"
        | "clamp_max"
        | "clamp_min"
        | "floor"
        | "label_join"
        | "label_replace"
        | "last_over_time"
        | "max_over_time"
        | "min_over_time"
        | "predict_linear"
        | "round"
        | "scalar"
        | "sort"
        | "sort_desc"
        | "sum_over_time"
        | "vector"
        | "double_exponential_smoothing"
        | "holt_winters" => first(),
        _ => PLAIN,
    }
}

/// Of a histogram's rate, the unit of what it measures.
fn per_event(guess: Guess) -> Guess {
    match guess {
        Share | SECONDS => SECONDS,
        BYTES_PER_SECOND | BYTES => BYTES,
        RATIO => RATIO,
        _ => PLAIN,
    }
}

fn of_binary(binary: &BinaryExpr) -> Guess {
    let (left, right) = (guess(&binary.lhs), guess(&binary.rhs));
    match binary.op.id() {
        token::T_ADD | token::T_SUB => sum(left, right, binary.op.id() == token::T_SUB),
        token::T_MUL => product(left, right),
        token::T_DIV => quotient(left, right),
        token::T_MOD | token::T_POW | token::T_ATAN2 => PLAIN,
        // A comparison filters, and so do set operators.
        _ if binary.return_bool() => PLAIN,
        _ => left,
    }
}

fn sum(left: Guess, right: Guess, minus: bool) -> Guess {
    match (left, right) {
        (Instant, Instant) if minus => SECONDS,
        (Instant, _) | (_, Instant) => Instant,
        // 1 - what is used is what is free.
        (Number(one), Share | PLAIN | RATIO) if minus && is(one, 1.0) => RATIO,
        (Number(hundred), PLAIN | PERCENT) if minus && is(hundred, 100.0) => PERCENT,
        (Number(_) | PLAIN, other) | (other, Number(_)) => other,
        (left, _) => left,
    }
}

fn product(left: Guess, right: Guess) -> Guess {
    match (left, right) {
        (Number(hundred), RATIO | Share) | (RATIO | Share, Number(hundred)) if is(hundred, 100.0) => PERCENT,
        (Number(one), other) | (other, Number(one)) if is(one, 1.0) => other,
        (Number(_), _) | (_, Number(_)) => PLAIN,
        // A metric that is 1 brings labels.
        (PLAIN, other) | (other, PLAIN) => other,
        _ => PLAIN,
    }
}

fn quotient(left: Guess, right: Guess) -> Guess {
    match (left, right) {
        (_, Number(_)) => PLAIN,
        (SECONDS, Count) | (Share, PER_SECOND) | (BYTES, BYTES_PER_SECOND) => SECONDS,
        (BYTES, Count) | (BYTES_PER_SECOND, PER_SECOND) => BYTES,
        // What is used of a limit, whose metric names no unit.
        (BYTES | Share, PLAIN) => RATIO,
        (left, right) if left == right => RATIO,
        _ => PLAIN,
    }
}

fn is(number: f64, expected: f64) -> bool {
    (number - expected).abs() < f64::EPSILON
}
