//! `wget`: what runbooks call in the pod. The image has no other programs, so this one answers to that name.

use std::{
    ffi::OsStr,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use reqwest::{
    Certificate, Client, Method, Response,
    header::{HeaderMap, HeaderName, HeaderValue},
    redirect::Policy,
};
use url::Url;

use super::support::{
    http_client::{self, block_on, in_words},
    output::clean,
};

/// As many redirects as GNU's wget follows.
const MAX_REDIRECTS: usize = 20;
/// GNU's exit codes: the network failed, the server answered with an error.
const NETWORK: u8 = 4;
const REFUSED: u8 = 8;

/// Asks a URL, as much like GNU's wget as probes from a pod need.
///
/// This is matrix-alertmanager-receiver under the name of wget: the image has no other programs. It asks once, writes
/// nothing to disk, and says why a request failed also with -q. Exit codes: 0 success, 4 no answer, 8 an answer of
/// status 400 or above.
#[derive(Debug, Parser)]
#[command(name = "wget", version = crate::LONG_VERSION, max_term_width = 110, after_long_help = "\
Examples:
  wget -qO- --spider https://matrix.example.org/_matrix/client/versions \\
    && echo reachable
  wget -qO- http://localhost:9088/healthz")]
#[expect(clippy::struct_excessive_bools, reason = "they are wget's options")]
pub struct Wget {
    /// Print nothing but the body and failures.
    #[arg(short, long)]
    quiet: bool,
    /// Where to write the body.
    #[arg(short = 'O', long, value_name = "FILE", value_parser = ["-", "/dev/null"], required_unless_present = "spider")]
    output_document: Option<String>,
    /// Ask whether it is there, without its body.
    #[arg(long)]
    spider: bool,
    /// Print the status and the headers of the answer.
    #[arg(short = 'S', long)]
    server_response: bool,
    #[arg(short = 'T', long, value_name = "SECONDS", default_value = "60", help = "\
        Give up after so many seconds", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    #[arg(short = 't', long, value_name = "NUMBER", default_value = "1", hide = true)]
    tries: u32,
    /// Trust the certificates of this PEM file as well.
    #[arg(long, value_name = "FILE")]
    ca_certificate: Option<PathBuf>,
    /// Accept any certificate.
    #[arg(long)]
    no_check_certificate: bool,
    /// Send this header, "Name: value"; more than once for several.
    #[arg(long, value_name = "HEADER", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// What to ask for; http:// where it names no scheme.
    #[arg(value_parser = url)]
    url: Url,
}

/// Whether the program was called by this name.
pub fn is_name(program: Option<&OsStr>) -> bool {
    program.and_then(|path| Path::new(path).file_name()).is_some_and(|name| name == "wget")
}

impl Wget {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        block_on(async {
            Ok(match self.fetch().await {
                Ok(()) => ExitCode::SUCCESS,
                Err((code, why)) => {
                    eprintln!("wget: {}: {}", clean(self.url.as_str()), clean(&why));
                    ExitCode::from(code)
                }
            })
        })
    }

    async fn fetch(&self) -> Result<(), (u8, String)> {
        let client = self.client().map_err(|error| (1, format!("{error:#}")))?;
        let mut answer = self.ask(&client, if self.spider { Method::HEAD } else { Method::GET }).await?;
        // Not every server knows HEAD.
        if self.spider && is_failure(&answer) {
            answer = self.ask(&client, Method::GET).await?;
        }
        self.describe(&answer);
        if is_failure(&answer) {
            return Err((REFUSED, format!("the server answers {}", answer.status())));
        }
        if self.spider { Ok(()) } else { self.copy(answer).await }
    }

    fn client(&self) -> anyhow::Result<Client> {
        let mut builder = Client::builder()
            .user_agent(http_client::USER_AGENT)
            .timeout(Duration::from_secs(self.timeout))
            .redirect(Policy::limited(MAX_REDIRECTS));
        if let Some(file) = &self.ca_certificate {
            let pem = std::fs::read(file).with_context(|| format!("--ca-certificate {}", file.display()))?;
            builder = builder.tls_certs_merge(Certificate::from_pem_bundle(&pem)?);
        }
        Ok(builder.tls_danger_accept_invalid_certs(self.no_check_certificate).build()?)
    }

    async fn ask(&self, client: &Client, method: Method) -> Result<Response, (u8, String)> {
        let headers: HeaderMap = self.header.iter().cloned().collect();
        let request = client.request(method, self.url.clone()).headers(headers);
        request.send().await.map_err(|error| (NETWORK, in_words(&error)))
    }

    /// On standard error, as wget does.
    fn describe(&self, answer: &Response) {
        if self.server_response {
            eprintln!("  {:?} {}", answer.version(), answer.status());
            for (name, value) in answer.headers() {
                eprintln!("  {name}: {}", clean(&String::from_utf8_lossy(value.as_bytes())));
            }
        } else if !self.quiet {
            eprintln!("{}: {}", clean(answer.url().as_str()), answer.status());
        }
    }

    /// Piece by piece: a body may be large.
    async fn copy(&self, mut answer: Response) -> Result<(), (u8, String)> {
        let mut out = io::stdout();
        while let Some(piece) = answer.chunk().await.map_err(|error| (NETWORK, in_words(&error)))? {
            let written = if self.output_document.as_deref() == Some("-") { out.write_all(&piece) } else { Ok(()) };
            match written {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                written => written.map_err(|error| (1, error.to_string()))?,
            }
        }
        out.flush().map_err(|error| (1, error.to_string()))
    }
}

fn is_failure(answer: &Response) -> bool {
    answer.status().as_u16() >= 400
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let expected = || "expected \"Name: value\"".to_owned();
    let (name, value) = text.split_once(':').ok_or_else(expected)?;
    let mut value = HeaderValue::from_str(value.trim()).map_err(|_| expected())?;
    // It may be a token.
    value.set_sensitive(true);
    Ok((name.trim().parse().map_err(|_| expected())?, value))
}

fn url(text: &str) -> Result<Url, String> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&whole).map_err(|error| error.to_string())?;
    if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err("expected http:// or https://".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Wget, clap::Error> {
        Wget::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_name_counts_wherever_the_link_is() {
        for (name, is) in [("wget", true), ("/usr/bin/wget", true), ("wget2", false), ("wget/x", false), ("", false)] {
            assert_eq!(is_name(Some(OsStr::new(name))), is, "{name}");
        }
        assert!(!is_name(None));
    }

    #[test]
    fn options_are_joined_as_runbooks_join_them() {
        let wget = parse("wget -qO- --spider https://h.example/_matrix/client/versions").unwrap();
        assert!(wget.quiet && wget.spider && wget.output_document.as_deref() == Some("-"));
        assert_eq!(wget.url.as_str(), "https://h.example/_matrix/client/versions");
        let wget = parse("wget -q -O - -T 5 -t 1 localhost:9088/healthz").unwrap();
        assert_eq!((wget.timeout, wget.url.as_str()), (5, "http://localhost:9088/healthz"));
        assert!(parse("wget -qO /dev/null -S --timeout=2 http://h").unwrap().server_response);
        let wget = parse("wget --spider --header=Accept:text/plain h").unwrap();
        assert_eq!((wget.header[0].0.as_str(), wget.header[0].1.to_str().unwrap()), ("accept", "text/plain"));
    }

    #[test]
    fn what_it_cannot_do_is_an_error() {
        for line in [
            "wget http://h",
            "wget -O file http://h",
            "wget -qO- ftp://h",
            "wget -qO- --post-data=x http://h",
            "wget -qO- --header=nonsense http://h",
            "wget -qO- -T 0 http://h",
            "wget -qO-",
        ] {
            assert_eq!(parse(line).map(|_| ()).map_err(|error| error.exit_code()), Err(2), "{line}");
        }
    }
}
