//! The forms of an event, from full to one line.

/// How much an event shows. When the homeserver refuses an event, the next plainer form takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// Everything that fits.
    Full,
    /// Counts in place of lists, no description and no links.
    Counts,
    /// One line of text.
    OneLine,
}

impl Form {
    pub const ALL: [Self; 3] = [Self::Full, Self::Counts, Self::OneLine];

    /// The form that follows a refusal of this one; `None` after the plainest.
    #[must_use]
    pub fn plainer(self) -> Option<Self> {
        match self {
            Self::Full => Some(Self::Counts),
            Self::Counts => Some(Self::OneLine),
            Self::OneLine => None,
        }
    }

    /// How many refusals lead to this form; the log's `plainness`.
    #[must_use]
    pub fn refusals(self) -> u32 {
        match self {
            Self::Full => 0,
            Self::Counts => 1,
            Self::OneLine => 2,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Counts => "counts",
            Self::OneLine => "one_line",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.as_str() == word)
    }
}
