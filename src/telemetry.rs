//! Logs: text for people, JSON for collectors, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt, reload};

/// The cap for foreign crates that the filter does not name: at debug level HTTP clients print what they send, and their
/// warnings are not actionable.
const CAPPED: &str = "error";
/// Crates that log each failed request as an error, which the receiver logs itself.
const QUIET: [&str; 3] = ["matrix_sdk=off", "matrix_sdk_base=error", "matrix_sdk_crypto=error"];

/// Replaces the filter of the installed subscriber.
type Replace = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// The log's filter, which can change while the process runs.
pub struct Filter {
    replace: Replace,
}

impl Filter {
    /// Applies new `directives`.
    ///
    /// # Errors
    /// When they are invalid; then nothing changes.
    pub fn set(&self, directives: &str) -> anyhow::Result<()> {
        let filter = filter(directives)?;
        (self.replace)(filter).map_err(|error| anyhow::anyhow!("log.filter: {error}"))
    }
}

/// Checks `log.filter`.
///
/// # Errors
/// When it is invalid.
pub fn check(directives: &str) -> anyhow::Result<()> {
    filter(directives).map(drop)
}

/// Installs the subscriber, which writes JSON lines or text. `directives` is `log.filter`. Call once.
///
/// # Errors
/// When the filter is invalid or a subscriber is installed already.
pub fn init(json: bool, directives: &str) -> anyhow::Result<Filter> {
    let filter = filter(directives)?;
    // Errors of the log itself (a full disk) are not logged: that would write to the same standard error, and panic.
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    let (replace, installed): (Replace, _) = if json {
        let builder = builder.json().flatten_event(true).with_current_span(false).with_filter_reloading();
        let handle = builder.reload_handle();
        (Box::new(move |filter| handle.reload(filter)), builder.try_init())
    } else {
        let builder = builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).with_filter_reloading();
        let handle = builder.reload_handle();
        (Box::new(move |filter| handle.reload(filter)), builder.try_init())
    };
    installed.map_err(|error| anyhow::anyhow!("cannot install the log: {error}"))?;
    Ok(Filter { replace })
}

/// Parses `log.filter`. A bare level applies to the receiver; all other crates keep their cap.
fn filter(text: &str) -> anyhow::Result<EnvFilter> {
    let mut directives: Vec<String> = vec![CAPPED.to_owned()];
    directives.extend(QUIET.map(str::to_owned));
    for directive in text.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
        let bare_level = directive.parse::<tracing::level_filters::LevelFilter>().is_ok();
        if bare_level {
            directives.push(format!("matrix_alertmanager_receiver={directive}"));
        } else {
            directives.push(directive.to_owned());
        }
    }
    EnvFilter::try_new(directives.join(",")).map_err(|error| anyhow::anyhow!("log.filter: {error}"))
}

#[cfg(test)]
mod tests {
    use super::filter;

    /// Foreign warnings are not actionable, such as missing backups with every sync.
    #[test]
    fn foreign_crates_do_not_warn_unless_named() {
        let quiet = filter("info").expect("a filter").to_string();
        let foreign = |directive: &&str| !directive.starts_with("matrix_alertmanager_receiver=");
        assert!(quiet.split(',').filter(foreign).all(|it| it.ends_with("error") || it.ends_with("off")), "{quiet}");
        let named = filter("info,matrix_sdk_crypto=warn").expect("a filter").to_string();
        assert!(named.contains("matrix_sdk_crypto=warn"), "{named}");
    }

    #[test]
    fn a_bare_level_is_the_receivers_own() {
        let text = filter("trace").expect("a filter").to_string();
        assert!(text.contains("matrix_alertmanager_receiver=trace"), "{text}");
        assert!(text.contains("error") && !text.split(',').any(|directive| directive == "trace"), "{text}");
        assert!(filter("debug,hyper=trace").expect("a filter").to_string().contains("hyper=trace"));
        assert!(filter("=,=").is_err());
    }
}
