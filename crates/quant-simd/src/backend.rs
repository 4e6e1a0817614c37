//! The instruction sets that kernels exist for.

/// A set of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// Plain loops, on every machine.
    Scalar,
}

impl Backend {
    /// The fastest backend that this machine can run.
    pub fn detect() -> Self {
        Self::Scalar
    }

    /// Every backend that this machine can run, the fastest first.
    pub fn available() -> &'static [Self] {
        &[Self::Scalar]
    }

    /// The backend of that name, if this machine can run it.
    pub fn by_name(name: &str) -> Option<Self> {
        let mut backends = Self::available().iter().copied();
        backends.find(|backend| backend.name() == name)
    }

    /// The lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
        }
    }
}
