//! Custom templates: which message each is for, and its file.

use std::{collections::BTreeMap, fs::File, io::Read as _, path::PathBuf};

/// The files that replace built-in templates.
pub type Templates = BTreeMap<TemplateName, TemplateFile>;

/// The file of a custom template, and the key that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateFile {
    /// `routes.ops.templates.card_html`, for errors.
    pub key: String,
    pub path: PathBuf,
}

/// The two forms of each kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TemplateName {
    CardHtml,
    CardText,
    DigestHtml,
    DigestText,
    ReplyHtml,
    ReplyText,
}

impl TemplateName {
    pub const ALL: [Self; 6] =
        [Self::CardHtml, Self::CardText, Self::DigestHtml, Self::DigestText, Self::ReplyHtml, Self::ReplyText];

    /// The name in the config and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CardHtml => "card_html",
            Self::CardText => "card_text",
            Self::DigestHtml => "digest_html",
            Self::DigestText => "digest_text",
            Self::ReplyHtml => "reply_html",
            Self::ReplyText => "reply_text",
        }
    }

    #[must_use]
    pub fn is_html(self) -> bool {
        matches!(self, Self::CardHtml | Self::DigestHtml | Self::ReplyHtml)
    }
}

/// Bound of a template file; what it renders must fit into 22 KB.
const MAX_BYTES: u64 = 64 * 1024;

impl TemplateFile {
    /// Reads the file.
    ///
    /// # Errors
    /// Says why it is not a template, as it follows the file's name and a colon.
    pub fn read(&self) -> Result<String, String> {
        let found = std::fs::metadata(&self.path).map_err(|error| format!("cannot read: {error}"))?;
        // Reading a pipe would block the start.
        if !found.is_file() {
            let what = if found.is_dir() { "a folder" } else { "not a regular file" };
            return Err(format!("is {what}, expected a template file"));
        }
        let mut bytes = Vec::new();
        File::open(&self.path)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|error| format!("cannot read: {error}"))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(format!("is larger than {MAX_BYTES} bytes"));
        }
        String::from_utf8(bytes).map_err(|error| {
            let good = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..good].split(|byte| *byte == b'\n').count();
            format!("is not UTF-8 text (line {line})")
        })
    }
}
