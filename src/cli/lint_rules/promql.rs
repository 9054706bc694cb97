//! The one thing a linter must know of PromQL: which labels the outermost aggregation keeps.
//!
//! `sum by (a) (…)`, `sum(…) by (a)` and `sum(…)`, in parentheses or compared and reckoned with numbers. Of everything
//! else nothing is concluded.

/// Operators whose result has only the labels that they are told to keep (`topk` and its like keep all).
/// <https://prometheus.io/docs/prometheus/latest/querying/operators/#aggregation-operators>
const AGGREGATIONS: [&str; 9] = ["sum", "min", "max", "avg", "group", "count", "stddev", "stdvar", "quantile"];
/// Longer expressions are not looked into.
const MAX_TOKENS: usize = 4_000;

/// The labels that the result of `expr` has at most; `None` when nothing is known.
pub(super) fn kept_labels(expr: &str) -> Option<Vec<String>> {
    let tokens = tokens(expr)?;
    let mut rest = tokens.as_slice();
    // Each round takes tokens away.
    while let Some(less) = without_parentheses(rest).or_else(|| without_number(rest)) {
        rest = less;
    }
    let (Token::Word(name), after) = rest.split_first()? else { return None };
    if !AGGREGATIONS.iter().any(|known| name.eq_ignore_ascii_case(known)) {
        return None;
    }
    let (before, after) = grouping(after)?;
    let close = closing(after)?;
    let (behind, after) = grouping(&after[close + 1..])?;
    match (before, behind) {
        _ if !after.is_empty() => None,
        (Some(labels), None) | (None, Some(labels)) => Some(labels),
        (None, None) => Some(Vec::new()),
        (Some(_), Some(_)) => None,
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Number,
    /// Without its quotes; escapes are left as they are.
    Text(&'a str),
    Sign(char),
}

fn tokens(expr: &str) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut rest = expr;
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            c if c.is_whitespace() => (None, c.len_utf8()),
            '#' => (None, rest.find('\n').unwrap_or(rest.len())),
            '"' | '\'' | '`' => {
                let length = text_length(rest, first)?;
                (Some(Token::Text(&rest[1..length - 1])), length)
            }
            '0'..='9' | '.' => (Some(Token::Number), number_length(rest)),
            c if is_word(c) => {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let word = &rest[..length];
                let number = word.eq_ignore_ascii_case("inf") || word.eq_ignore_ascii_case("nan");
                (Some(if number { Token::Number } else { Token::Word(word) }), length)
            }
            c => (Some(Token::Sign(c)), c.len_utf8()),
        };
        tokens.extend(token);
        if tokens.len() > MAX_TOKENS {
            return None;
        }
        rest = &rest[length..];
    }
    Some(tokens)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | ':')
}

/// With both quotes; `None` when it does not end.
fn text_length(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// `0.5`, `1e-3`, `0x1F`, `5m`.
fn number_length(rest: &str) -> usize {
    let hex = rest.starts_with("0x") || rest.starts_with("0X");
    let mut last = '0';
    for (at, c) in rest.char_indices() {
        let exponent = !hex && matches!(c, '+' | '-') && matches!(last, 'e' | 'E');
        if !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_') || exponent) {
            return at;
        }
        last = c;
    }
    rest.len()
}

/// Where the parenthesis that `tokens` begins with is closed.
fn closing(tokens: &[Token<'_>]) -> Option<usize> {
    let mut open = 0_usize;
    if tokens.first() != Some(&Token::Sign('(')) {
        return None;
    }
    tokens.iter().position(|token| {
        match token {
            Token::Sign('(') => open += 1,
            Token::Sign(')') => open -= 1,
            _ => {}
        }
        open == 0
    })
}

fn without_parentheses<'a, 't>(tokens: &'t [Token<'a>]) -> Option<&'t [Token<'a>]> {
    let close = closing(tokens)?;
    (close + 1 == tokens.len()).then(|| &tokens[1..close])
}

/// Without `> 5` at the end or `5 <` at the start.
fn without_number<'a, 't>(tokens: &'t [Token<'a>]) -> Option<&'t [Token<'a>]> {
    let (last, before) = tokens.split_last()?;
    if *last == Token::Number {
        // The sign of the number may itself be the operator: what is left of `a -5` or `a > -5` is the same.
        let left = before.iter().rposition(|token| !is_operator(token)).map_or(0, |at| at + 1);
        return (left > 0 && left < before.len()).then(|| &tokens[..left]);
    }
    let signs = tokens.iter().take_while(|token| matches!(token, Token::Sign('+' | '-'))).count();
    let after = tokens[signs..].strip_prefix(&[Token::Number])?;
    let operators = after.iter().take_while(|token| is_operator(token)).count();
    (operators > 0 && operators < after.len()).then(|| &after[operators..])
}

fn is_operator(token: &Token<'_>) -> bool {
    match token {
        Token::Sign(sign) => "<>=!+-*/%^".contains(*sign),
        Token::Word(word) => word.eq_ignore_ascii_case("bool"),
        _ => false,
    }
}

type Grouping<'a, 't> = (Option<Vec<String>>, &'t [Token<'a>]);

/// `by (a, b)`, if it is there, and what follows; `None` for `without` and for what cannot be read.
fn grouping<'a, 't>(tokens: &'t [Token<'a>]) -> Option<Grouping<'a, 't>> {
    match tokens.first() {
        Some(Token::Word(word)) if word.eq_ignore_ascii_case("by") => {}
        Some(Token::Word(_)) => return None,
        _ => return Some((None, tokens)),
    }
    let list = &tokens[1..];
    let close = closing(list)?;
    let mut labels = Vec::new();
    for (at, token) in list[1..close].iter().enumerate() {
        match token {
            Token::Word(label) | Token::Text(label) if at % 2 == 0 => labels.push((*label).to_owned()),
            Token::Sign(',') if at % 2 == 1 => {}
            _ => return None,
        }
    }
    Some((Some(labels), &list[close + 1..]))
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
            // Nothing is concluded.
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
