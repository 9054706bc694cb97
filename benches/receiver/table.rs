//! Medians with their range, and the Markdown table.

use std::{fmt, time::Duration};

/// Figures of one kind, in the order in which they were measured.
#[derive(Debug, Clone, Default)]
pub struct Figures(pub Vec<f64>);

impl Figures {
    pub fn push_millis(&mut self, duration: Duration) {
        self.0.push(duration.as_secs_f64() * 1e3);
    }

    /// The value that `share` of the figures do not exceed.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index into the figures")]
        let index = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1;
        sorted[index]
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Each figure by the one that `other` has of the same round.
    pub fn by(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(ours, theirs)| ours / theirs).collect())
    }
}

/// `12.3 (11.0–14.2)`: the median, and the least and the most of all rounds.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = (self.quantile(0.0), self.quantile(1.0));
        write!(f, "{} ({}–{})", short(self.median()), short(least), short(most))
    }
}

/// Three digits that count.
pub fn short(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[derive(Debug, Default)]
pub struct Table(Vec<[String; 5]>);

impl Table {
    /// `ours`, `baseline` and `ratio` as they should read; `wanted`: the aim, empty where there is none.
    pub fn row(
        &mut self,
        what: &str,
        ours: &dyn fmt::Display,
        baseline: &dyn fmt::Display,
        ratio: &dyn fmt::Display,
        wanted: &str,
    ) {
        let row = [what.to_owned(), ours.to_string(), baseline.to_string(), ratio.to_string(), wanted.to_owned()];
        println!("{}", row.join(" | "));
        self.0.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | receiver | baseline | ratio | wanted |\n|---|---|---|---|---|")?;
        self.0.iter().try_for_each(|row| writeln!(f, "| {} |", row.join(" | ")))
    }
}
