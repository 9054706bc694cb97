//! `store copy`: moves a stopped receiver's store into PostgreSQL.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};

use super::support::{http_client, output::print};
use crate::{
    config::{Config, Purpose, Secret, database_url_from},
    store::{self, Copied},
};

/// Moves the store of a stopped receiver into a PostgreSQL database, which several replicas can share.
#[derive(Debug, Args)]
pub struct Store {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Copy(Copy),
}

/// Copies the SQLite store in store.path into an empty PostgreSQL database.
///
/// Stop the receiver first, and run it as the receiver's user. It copies everything in one transaction, compares what
/// arrived with the original, and prints the rows of each table; if anything fails, the database keeps nothing but empty
/// tables. The file stays as it is. A second run finds the copy there and changes nothing. Exits with 1 and the reason
/// when it was not copied, also when the database has other content.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  matrix-alertmanager-receiver store copy
  matrix-alertmanager-receiver store copy --to-file /run/secrets/database-url
  matrix-alertmanager-receiver store copy \\
    --to postgres://receiver@localhost/receiver")]
struct Copy {
    /// The database. A password in it can be seen by all users of this machine while the command runs: --to-file and
    /// store.database_url_file, which is used without either, keep it to themselves.
    #[arg(long, value_name = "URL", conflicts_with = "to_file")]
    to: Option<String>,
    /// A file that holds the database's URL.
    #[arg(long, value_name = "FILE")]
    to_file: Option<PathBuf>,
}

impl Store {
    pub fn run(self, config: Option<&Path>) -> anyhow::Result<ExitCode> {
        let Action::Copy(copy) = self.action;
        copy.run(config)
    }
}

impl Copy {
    fn run(self, file: Option<&Path>) -> anyhow::Result<ExitCode> {
        let named = database_url_from(self.to.as_deref(), self.to_file.as_deref()).map_err(|fault| anyhow!(fault))?;
        let purpose = if named.is_some() { Purpose::Render } else { Purpose::Query };
        let config = Config::load(file, &crate::config::environment(), purpose)?;
        let Some(database) = named.or_else(|| config.store.database_url.clone()) else {
            bail!("no database is named: use --to-file FILE, or set store.database_url_file in the config");
        };
        let folder = &config.store.path;
        let copied = http_client::block_on(async { copy(folder, &database).await })?;
        print(&summary(&copied))?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn copy(folder: &Path, database: &Secret) -> anyhow::Result<Copied> {
    if folder.is_dir() {
        store::keep_temporary_files_in(folder).await?;
    }
    Ok(store::copy(folder, database).await?)
}

fn summary(copied: &Copied) -> String {
    let width = copied.tables.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut lines: Vec<_> = copied.tables.iter().map(|(name, rows)| format!("{name:width$}  {rows:>10}")).collect();
    let rows: u64 = copied.tables.iter().map(|(_, rows)| rows).sum();
    let tables = copied.tables.len();
    lines.push(if copied.was_there {
        format!("the database has exactly this copy already: {rows} rows in {tables} tables; nothing was changed")
    } else {
        format!("copied {rows} rows in {tables} tables, each equal to the original")
    });
    if copied.replaced > 0 {
        lines
            .push(format!("{} characters U+0000 in texts became U+FFFD, since PostgreSQL takes none", copied.replaced));
    }
    lines.push(
        "next: set store.database_url_file for each replica, start them, and start no receiver on the old file again"
            .to_owned(),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_every_table() {
        let tables = vec![("alert".to_owned(), 12), ("card_incident".to_owned(), 3)];
        let copied = Copied { tables, replaced: 0, was_there: false };
        let text = summary(&copied);
        assert!(
            text.starts_with("alert                  12\ncard_incident           3\ncopied 15 rows in 2 tables"),
            "{text}"
        );
        assert!(!text.contains("U+FFFD"), "{text}");
        let again = summary(&Copied { replaced: 2, was_there: true, ..copied });
        assert!(again.contains("nothing was changed") && again.contains("\n2 characters U+0000"), "{again}");
    }
}
