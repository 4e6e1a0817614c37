//! A bill of materials in the form of CycloneDX: every package that is in what is given to others.

use std::error::Error;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::Outcome;
use crate::codegen::version;
use crate::dist::linked;

/// The packages that are given to others, and what each is.
const GIVEN: [(&str, &str); 2] = [("quant-cli", "quant"), ("quant-python", "linquant")];

/// Writes `NAME.cdx.json` for the command and the Python package.
pub fn write(folder: &Path) -> Outcome {
    for (package, name) in GIVEN {
        let text = serde_json::to_string_pretty(&bill(package, name)?)?;
        fs::write(folder.join(format!("{name}.cdx.json")), text + "\n")?;
    }
    Ok(())
}

fn bill(package: &str, name: &str) -> Result<Value, Box<dyn Error>> {
    let mut components = Vec::new();
    // Of all targets: what is for one of them only is in one of them only.
    for package in linked(package, "all")? {
        components.push(json!({
            "type": "library",
            "name": package.name,
            "version": package.version,
            "purl": format!("pkg:cargo/{}@{}", package.name, package.version),
            "licenses": [{"expression": package.license.unwrap_or_default()}],
        }));
    }
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {
            "type": "application",
            "name": name,
            "version": version(),
            "licenses": [{"expression": "MIT OR Apache-2.0"}],
        }},
        "components": components,
    }))
}

#[cfg(test)]
mod tests {
    use super::bill;

    #[test]
    fn what_is_linked_is_listed_once_and_licensed() {
        let bill = bill("quant-cli", "quant").unwrap();
        let names = |key: &str| {
            let components = bill["components"].as_array().unwrap().iter();
            let values = components.map(|it| it[key].as_str().unwrap().to_owned());
            values.collect::<Vec<_>>()
        };
        let mut links = names("purl");
        assert!(names("name").contains(&"clap".to_owned()) && links.len() > 50);
        assert!(!names("name").contains(&"quant-core".to_owned()));
        links.dedup();
        assert_eq!(links.len(), names("purl").len());
    }
}
