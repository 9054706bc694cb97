//! The labels that a rule's outermost aggregation keeps.
//!
//! `sum by (a) (…)` and `sum(…)`, in parentheses, or compared with and multiplied by numbers, keep a known set of labels.
//! No conclusion is drawn from any other expression.

use promql_parser::parser::{self, Expr, LabelModifier, token};

/// Operators whose result has only the labels of their `by` clause (`topk` and the like keep all labels).
/// <https://prometheus.io/docs/prometheus/latest/querying/operators/#aggregation-operators>
const AGGREGATIONS: [token::TokenId; 9] = [
    token::T_SUM,
    token::T_MIN,
    token::T_MAX,
    token::T_AVG,
    token::T_GROUP,
    token::T_COUNT,
    token::T_STDDEV,
    token::T_STDVAR,
    token::T_QUANTILE,
];
/// Bounds of an expression, since the parser's tree is walked and dropped recursively.
const MAX_BYTES: usize = 16 * 1024;
const MAX_NESTED: usize = 200;

/// The only labels that the result of `expr` can have; `None` when they are unknown.
pub(super) fn kept_labels(expr: &str) -> Option<Vec<String>> {
    let nested = expr.bytes().filter(|b| b"([{+-".contains(b)).count();
    if expr.len() > MAX_BYTES || nested > MAX_NESTED {
        return None;
    }
    kept_by(&parser::parse(expr).ok()?)
}

fn kept_by(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Paren(inner) => kept_by(&inner.expr),
        Expr::Binary(binary) => match (&*binary.lhs, &*binary.rhs) {
            (vector, number) if is_number(number) => kept_by(vector),
            (number, vector) if is_number(number) => kept_by(vector),
            _ => None,
        },
        Expr::Aggregate(aggregate) if AGGREGATIONS.contains(&aggregate.op.id()) => match &aggregate.modifier {
            None => Some(Vec::new()),
            Some(LabelModifier::Include(labels)) => Some(labels.labels.clone()),
            Some(LabelModifier::Exclude(_)) => None,
        },
        _ => None,
    }
}

fn is_number(expr: &Expr) -> bool {
    match expr {
        Expr::NumberLiteral(_) => true,
        Expr::Paren(inner) => is_number(&inner.expr),
        Expr::Unary(inner) => is_number(&inner.expr),
        Expr::Binary(binary) => is_number(&binary.lhs) && is_number(&binary.rhs),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_outermost_aggregation_keeps() {
        for (expr, kept) in [
            ("sum by (a, b) (rate(x{c=\")\"}[5m])) > 0", Some("a b")),
            ("sum(rate(x[5m])) by (a) > bool 0.5", Some("a")),
            ("SUM BY(a,)(x)", Some("a")),
            ("(((max(x) BY (a))) >= -1e-3)", Some("a")),
            ("0 < (sum by (a) (x) * 100)", Some("a")),
            ("sum by (a) (x) > 2 * 60 * 60", Some("a")),
            ("count(x) by (\"a.b\", c) != 0x1F", Some("a.b c")),
            ("quantile by (a) (0.9, x) < Inf # by (b)\n", Some("a")),
            ("sum by (a) ( # not by (b) (\n x)", Some("a")),
            ("sum by () (x) > 1", Some("")),
            ("sum(x) > 1", Some("")),
            ("sum(y - on() x) -5", Some("")),
            // No conclusion.
            ("x > 1", None),
            ("sum without (a) (x)", None),
            ("sum by (a) (x) / sum by (a) (y) > 0.1", None),
            ("sum by (a) (x) and y", None),
            ("topk by (a) (3, x)", None),
            ("rate(x[5m]) * on (a) group_left (b) sum by (a) (y)", None),
            ("label_replace(sum by (a) (x), \"b\", \"$1\", \"a\", \"(.*)\")", None),
            ("sum by (a) (x) by (b)", None),
            ("sum by (a (x)", None),
            ("sum by a (x)", None),
            ("sum by (a) (x) > y", None),
            ("sum", None),
            ("5", None),
            ("5 > 3", None),
            ("-5", None),
            (")(", None),
            ("(", None),
            ("\"", None),
            ("", None),
        ] {
            let found = kept_labels(expr).map(|labels| labels.join(" "));
            assert_eq!(found.as_deref(), kept, "{expr}");
        }
        assert_eq!(kept_labels(&"(".repeat(1_000_000)), None);
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(expr in "(sum|by|\\(|\\)|a|,|5| |>|-|\"|#|\n|ü){0,24}") {
            let _ = kept_labels(&expr);
        }
    }
}
