//! Figures as JSON, on standard output or kept under `benches/record`.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde::Serialize;

/// What was measured, where and when.
#[derive(Serialize)]
pub struct Record {
    cpu: String,
    date: String,
    rows: Vec<Row>,
}

/// One contender at one kernel and size.
#[derive(Serialize)]
pub struct Row {
    pub kernel: &'static str,
    pub name: &'static str,
    pub elements: usize,
    pub by: &'static str,
    /// Billions of elements per second.
    pub gels: f64,
    /// Billions of bytes read and written per second.
    pub gbs: f64,
    /// The speed as a share of the fastest limit.
    pub of_limit: f64,
    /// The speed as a multiple of the fastest peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_peer: Option<f64>,
}

impl Record {
    pub fn new(rows: Vec<Row>) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            cpu: cpu(),
            date: output("date", &["-u", "+%F"])?,
            rows,
        })
    }

    pub fn json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Writes `benches/record/<cpu>/<date>.json` and returns its path.
    pub fn keep(&self) -> Result<PathBuf, Box<dyn Error>> {
        let package = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("not started by cargo")?;
        let folder = PathBuf::from(package).join("record").join(slug(&self.cpu));
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}.json", self.date));
        fs::write(&path, self.json()?)?;
        Ok(path)
    }
}

/// The processor's name; with family and model where a name such as "AMD EPYC" says too little.
fn cpu() -> String {
    if let Ok(info) = fs::read_to_string("/proc/cpuinfo") {
        let field = |name: &str| {
            let line = info
                .lines()
                .find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
            Some(line.split_once(':')?.1.trim())
        };
        if let (Some(name), Some(family), Some(model)) =
            (field("model name"), field("cpu family"), field("model"))
        {
            return format!("{name} (family {family}, model {model})");
        }
    }
    output("sysctl", &["-n", "machdep.cpu.brand_string"])
        .unwrap_or_else(|_| std::env::consts::ARCH.into())
}

fn output(program: &str, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let output = Command::new(program).args(arguments).output()?;
    if !output.status.success() {
        return Err(format!("{program} failed").into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().into())
}

fn slug(name: &str) -> String {
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join("-").to_ascii_lowercase()
}
