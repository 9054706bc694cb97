//! What of an expression is drawn: the left side of its comparison, and the number that it is compared with.
//!
//! The text is cut at operators outside of brackets and strings, so that what is asked is what the rule's author wrote, and
//! extensions of PromQL pass. Numbers are read by promql-parser.

use std::fmt;

use promql_parser::parser::{self, Expr, token};

/// Longer expressions are not read.
pub(super) const MAX_BYTES: usize = 16 * 1024;
/// A bound of an expression, since the parser's tree is walked and dropped recursively.
const MAX_NESTED: usize = 200;
/// Outer parentheses and comparisons that are peeled off.
const MAX_LAYERS: usize = 20;

/// An expression taken apart.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Watched {
    /// PromQL without the comparison.
    pub(super) expr: String,
    /// What it is compared with, if that is a finite number.
    pub(super) threshold: Option<Threshold>,
}

/// The alert fires where the expression is `compared` with `value`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Threshold {
    pub(super) compared: Compared,
    pub(super) value: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    Above,
    AtLeast,
    Below,
    AtMost,
    Equal,
    NotEqual,
}

impl Compared {
    fn parse(operator: &str) -> Option<Self> {
        Some(match operator {
            ">" => Self::Above,
            ">=" => Self::AtLeast,
            "<" => Self::Below,
            "<=" => Self::AtMost,
            "==" => Self::Equal,
            "!=" => Self::NotEqual,
            _ => return None,
        })
    }

    /// The same with its sides exchanged.
    fn flipped(self) -> Self {
        match self {
            Self::Above => Self::Below,
            Self::AtLeast => Self::AtMost,
            Self::Below => Self::Above,
            Self::AtMost => Self::AtLeast,
            Self::Equal | Self::NotEqual => self,
        }
    }

    /// Whether the alert fires above the threshold; `None`: on neither side, or on both.
    pub(super) fn fires_above(self) -> Option<bool> {
        match self {
            Self::Above | Self::AtLeast => Some(true),
            Self::Below | Self::AtMost => Some(false),
            Self::Equal | Self::NotEqual => None,
        }
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Above => ">",
            Self::AtLeast => "≥",
            Self::Below => "<",
            Self::AtMost => "≤",
            Self::Equal => "=",
            Self::NotEqual => "≠",
        })
    }
}

/// Takes an expression apart. Of `and` and `unless` the left operand counts, of `or` if it is a comparison. Without a
/// comparison all of it is drawn, without a line.
pub(super) fn watched(expr: &str) -> Watched {
    let mut drawn = within_parentheses(expr);
    let (mut threshold, mut inner) = (None, false);
    for _ in 0..MAX_LAYERS {
        let operand = match operators(drawn, &SET_OPERATORS).first() {
            None => drawn,
            Some(operator) => {
                let left = within_parentheses(&drawn[..operator.at]);
                if operators(left, &COMPARISONS).is_empty() && !KEEPS_LEFT.contains(&operator.word.as_str()) {
                    break;
                }
                left
            }
        };
        if operand != drawn {
            drawn = operand;
            continue;
        }
        let Some(found) = comparison(operand) else { break };
        // What an outer comparison judges is then 0 or 1.
        if found.is_bool && inner {
            break;
        }
        let (side, line) = match (number(found.left), number(found.right)) {
            (None, value) => (found.left, value.map(|value| Threshold { compared: found.compared, value })),
            (Some(value), None) => (found.right, Some(Threshold { compared: found.compared.flipped(), value })),
            // Two numbers: nothing is watched.
            (Some(_), Some(_)) => break,
        };
        drawn = within_parentheses(side);
        inner = true;
        // Of several the outermost counts: of 0 <= x < 3 that is 3.
        threshold = threshold.or(line.filter(|line| line.value.is_finite()));
    }
    Watched { expr: drawn.to_owned(), threshold }
}

/// The tree of an expression in PromQL; `None` for extensions of it, and for one that is too deep to be walked.
pub(super) fn parsed(expr: &str) -> Option<Expr> {
    let nested = expr.bytes().filter(|b| b"([{+-*/%^".contains(b)).count();
    if expr.len() > MAX_BYTES || nested > MAX_NESTED {
        return None;
    }
    parser::parse(expr).ok()
}

/// The value of an expression of numbers alone.
pub(super) fn folded(expr: &Expr) -> Option<f64> {
    Some(match expr {
        Expr::NumberLiteral(number) => number.val,
        Expr::Paren(inner) => folded(&inner.expr)?,
        Expr::Unary(inner) => -folded(&inner.expr)?,
        Expr::Binary(binary) => {
            let (left, right) = (folded(&binary.lhs)?, folded(&binary.rhs)?);
            match binary.op.id() {
                token::T_ADD => left + right,
                token::T_SUB => left - right,
                token::T_MUL => left * right,
                token::T_DIV => left / right,
                token::T_MOD => left % right,
                token::T_POW => left.powf(right),
                _ => return None,
            }
        }
        _ => return None,
    })
}

fn number(text: &str) -> Option<f64> {
    folded(&parsed(text)?)
}

/// Those of PromQL and, behind them, of MetricsQL. They bind weaker than comparisons.
const SET_OPERATORS: [&str; 6] = ["and", "or", "unless", "if", "ifnot", "default"];
/// Whose result has values of the left operand alone.
const KEEPS_LEFT: [&str; 4] = ["and", "unless", "if", "ifnot"];
const COMPARISONS: [&str; 6] = [">", ">=", "<", "<=", "==", "!="];

#[derive(Debug)]
struct Comparison<'a> {
    left: &'a str,
    compared: Compared,
    right: &'a str,
    is_bool: bool,
}

/// The last comparison, which is the outermost: a > 1 < 5 is (a > 1) < 5.
fn comparison(text: &str) -> Option<Comparison<'_>> {
    let last = operators(text, &COMPARISONS).pop()?;
    let (left, right) = (text[..last.at].trim(), text[last.at + last.word.len()..].trim());
    let bool_len = "bool".len();
    let is_bool = right.get(..bool_len).is_some_and(|word| word.eq_ignore_ascii_case("bool"))
        && right[bool_len..].starts_with(|c: char| !is_word(c));
    let right = if is_bool { right[bool_len..].trim() } else { right };
    (!right.is_empty()).then_some(Comparison { left, compared: Compared::parse(&last.word)?, right, is_bool })
}

#[derive(Debug)]
struct Operator {
    at: usize,
    /// In lower case, and as long as it is written.
    word: String,
}

/// The operators outside of brackets and strings that are among `wanted`, but one that begins the text, which is then a
/// name.
fn operators(text: &str, wanted: &[&str]) -> Vec<Operator> {
    let mut tokens = Tokens { text, at: 0 };
    let (mut depth, mut first, mut found) = (0_usize, true, Vec::new());
    while let Some((at, token)) = tokens.next_token() {
        match token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ if depth == 0 && !first => {
                let word = token.to_ascii_lowercase();
                if wanted.contains(&word.as_str()) {
                    found.push(Operator { at, word });
                }
            }
            _ => {}
        }
        first = false;
    }
    found
}

/// `text` without the parentheses around all of it, and without blanks and comments around it.
fn within_parentheses(text: &str) -> &str {
    let mut text = text.trim();
    'peel: for _ in 0..MAX_LAYERS {
        let mut tokens = Tokens { text, at: 0 };
        let Some((open, "(")) = tokens.next_token() else { return text };
        let mut depth = 1_usize;
        while let Some((at, token)) = tokens.next_token() {
            match token {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                if tokens.next_token().is_some() {
                    return text;
                }
                text = text[open + 1..at].trim();
                continue 'peel;
            }
        }
        return text;
    }
    text
}

/// Cuts PromQL into words, operators and brackets; blanks, comments and strings are passed over.
struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    fn next_token(&mut self) -> Option<(usize, &'a str)> {
        loop {
            let rest = &self.text[self.at..];
            let first = rest.chars().next()?;
            let length = match first {
                '#' => rest.find('\n').unwrap_or(rest.len()),
                '"' | '\'' | '`' => string_length(rest, first),
                c if c.is_whitespace() => c.len_utf8(),
                c => {
                    let length = match c {
                        '=' | '!' | '<' | '>' if matches!(rest.as_bytes().get(1), Some(b'=' | b'~')) => 2,
                        c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                        c => c.len_utf8(),
                    };
                    let at = self.at;
                    self.at += length;
                    return Some((at, &rest[..length]));
                }
            };
            self.at += length;
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | ':' | '.')
}

fn string_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}
