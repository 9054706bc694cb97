//! `[templates]` and `routes.X.templates`

use crate::config::{
    reader::Section,
    templates::{TemplateFile, TemplateName, Templates},
    values::text,
};

/// The files that are named. They are read and checked where they are compiled.
pub(super) fn read(templates: &Section<'_>) -> Templates {
    let file = |name: TemplateName| {
        let path = templates.read(name.as_str(), "the path of a template file", text)?;
        let key = format!("{}.{}", templates.path, name.as_str());
        Some((name, TemplateFile { key, path: path.into() }))
    };
    TemplateName::ALL.into_iter().filter_map(file).collect()
}
