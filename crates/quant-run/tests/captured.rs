//! Cases of coremltools' own tests: `cases/cases.zip`, which `cases/choose.py` has made.

mod cases;

use std::fs::File;
use std::path::Path;

use cases::{Outcome, run};

#[test]
fn every_case_gives_what_coremltools_expects() {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/cases.zip");
    let mut archive = zip::ZipArchive::new(File::open(archive).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    archive.extract(folder.path()).unwrap();
    let entries = std::fs::read_dir(folder.path()).unwrap();
    let mut packages: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    packages.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "mlpackage")
    });
    packages.sort();
    let mut problems = Vec::new();
    for package in &packages {
        match run(package) {
            Outcome::Passed => {}
            outcome => problems.push(format!(
                "{}: {}: {outcome}",
                package.display(),
                outcome.name()
            )),
        }
    }
    assert!(packages.len() > 300, "{}", packages.len());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
