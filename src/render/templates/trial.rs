//! Tries templates before they are used, so that an error shows at start and not at night.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    sync::Arc,
};

use super::{
    engine::{self, Compiled, FallbackReason, TemplateError},
    samples::{self, Sample},
    sanitise,
    set::{CustomTemplate, TemplateSet, Templates},
    value,
};
use crate::{
    config::{Config, TemplateFile, TemplateName},
    render::{message::MAX_LINE, style::Style},
};

/// An error in a template file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct TemplateFileError {
    file: TemplateFile,
    /// The sample it failed on; `None` if it fails on all.
    sample: Option<&'static str>,
    fault: TemplateError,
}

/// `templates.card_html: /etc/receiver/card.html.j2:3:14: unknown filter: … (on the sample "several alerts")`
impl fmt::Display for TemplateFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}:{}", self.file.key, self.file.path.display(), self.fault)?;
        self.sample.map_or(Ok(()), |sample| write!(f, " (on the sample {sample:?})"))
    }
}

/// All errors, one line for each file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct TemplateFileErrors(pub Vec<TemplateFileError>);

/// What is worth knowing about a template that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateReport {
    pub template: TemplateName,
    pub file: TemplateFile,
    /// The number of samples that it was tried on.
    pub samples: usize,
    /// Remarks for the operator.
    pub notes: Vec<String>,
}

impl Templates {
    /// Reads and compiles all files that the config names, and tries each on all samples.
    ///
    /// # Errors
    /// One for each file that cannot be read, does not compile or fails on a sample.
    pub fn load(config: &Config, style: &Style) -> Result<Self, TemplateFileErrors> {
        let named = config.routes.values().map(|route| &route.templates).chain([&config.templates]);
        if named.clone().all(BTreeMap::is_empty) {
            return Ok(Self::default());
        }
        let samples = samples::all(style);
        let mut tried: BTreeMap<(TemplateName, PathBuf), Option<Arc<CustomTemplate>>> = BTreeMap::new();
        let mut faults = Vec::new();
        // The common templates first, so that a shared file is reported by its common key.
        for (name, file) in config.templates.iter().chain(named.flatten()) {
            tried.entry((*name, file.path.clone())).or_insert_with(|| {
                match CustomTemplate::load(*name, file, style, &samples) {
                    Ok(custom) => Some(Arc::new(custom)),
                    Err(fault) => {
                        faults.push(fault);
                        None
                    }
                }
            });
        }
        if !faults.is_empty() {
            return Err(TemplateFileErrors(faults));
        }
        let set = |files: &BTreeMap<TemplateName, TemplateFile>| -> TemplateSet {
            let custom = |(name, file): (&TemplateName, &TemplateFile)| {
                Some((*name, tried.get(&(*name, file.path.clone()))?.clone()?))
            };
            TemplateSet(files.iter().filter_map(custom).collect())
        };
        Ok(Self {
            common: set(&config.templates),
            routes: config.routes.iter().map(|(name, route)| (name.clone(), set(&route.templates))).collect(),
        })
    }

    /// Every file once.
    #[must_use]
    pub fn tried(&self) -> Vec<TemplateReport> {
        let mut all: Vec<TemplateReport> = Vec::new();
        for custom in [&self.common].into_iter().chain(self.routes.values()).flat_map(|set| set.0.values()) {
            let tried = TemplateReport {
                template: custom.name,
                file: custom.file.clone(),
                samples: custom.samples,
                notes: custom.notes.clone(),
            };
            if !all.contains(&tried) {
                all.push(tried);
            }
        }
        all
    }
}

impl CustomTemplate {
    pub(super) fn load(
        name: TemplateName,
        file: &TemplateFile,
        style: &Style,
        samples: &[Sample],
    ) -> Result<Self, TemplateFileError> {
        let failed = |sample, fault| TemplateFileError { file: file.clone(), sample, fault };
        let source = file.read().map_err(|text| failed(None, TemplateError::whole(FallbackReason::Error, text)))?;
        let samples: Vec<&Sample> = samples.iter().filter(|sample| sample.suits(name)).collect();
        let fields: BTreeSet<String> =
            samples.iter().filter_map(|sample| sample.view.as_object()).flat_map(|view| view.keys().cloned()).collect();
        let compiled = Compiled::new(&source, name.is_html(), &style.zone, &fields).map_err(|f| failed(None, f))?;
        let mut custom = Self { name, file: file.clone(), compiled, samples: samples.len(), notes: Vec::new() };
        let mut notes = BTreeMap::new();
        for sample in samples {
            custom.attempt(sample, &mut notes).map_err(|fault| failed(Some(sample.name), fault))?;
        }
        custom.notes = notes.into_values().collect();
        Ok(custom)
    }

    fn attempt(&self, sample: &Sample, notes: &mut BTreeMap<String, String>) -> Result<(), TemplateError> {
        let context = value::context(&sample.view);
        let form = self.form(&context)?;
        let mut message = sample.built_in.clone();
        let part = if self.name.is_html() { &mut message.html } else { &mut message.body };
        part.clone_from(&form);
        if !message.fits() {
            return Err(engine::too_large(message.bytes()));
        }
        let first = if self.name.is_html() {
            let sanitised = sanitise::sanitise(&self.compiled.run(&context)?);
            for lost in sanitised.iter().flat_map(|sanitised| &sanitised.dropped) {
                let note = match lost.as_str() {
                    "a[href]" => "has a link that is not an http or https URL; it is shown as text".to_owned(),
                    name => format!("uses <{name}>, which messages leave out"),
                };
                notes.insert(lost.clone(), note);
            }
            sanitised.map(|sanitised| sanitised.text).unwrap_or_default()
        } else {
            form
        };
        let length = first.trim_start().lines().next().unwrap_or_default().chars().count();
        if length > MAX_LINE {
            let note = format!(
                "has a first line of {length} characters on the sample {:?}; phones show about {MAX_LINE}",
                sample.name
            );
            notes.entry("first line".to_owned()).or_insert(note);
        }
        Ok(())
    }
}

impl Sample {
    fn suits(&self, name: TemplateName) -> bool {
        self.kind.contains(&name)
    }
}
