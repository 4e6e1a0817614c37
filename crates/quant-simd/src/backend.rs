//! The instruction sets that kernels exist for: which of them this machine has, and which to use.

use std::sync::OnceLock;

use quant_core::UnknownName;

#[cfg(target_arch = "aarch64")]
use crate::arch::neon::Neon;
use crate::arch::scalar::Scalar;
#[cfg(target_arch = "x86_64")]
use crate::arch::{avx2::Avx2, avx512::Avx512};
use crate::isa::{Isa, Kernel};

/// A set of kernels. Every one of them returns the reference's bytes. One that the machine does not
/// have works as [`Scalar`](Self::Scalar).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// Plain loops, on every machine.
    Scalar,
    /// AVX2, FMA and F16C together, on x86-64.
    Avx2,
    /// AVX-512 F, BW, CD, DQ and VL, on x86-64.
    Avx512,
    /// NEON, on aarch64.
    Neon,
}

impl Backend {
    /// The backend with the widest vectors that this machine can run, in general the fastest. It
    /// is looked for once.
    ///
    /// ```
    /// use quant_simd::Backend;
    /// assert!(Backend::detect().is_available());
    /// ```
    pub fn detect() -> Self {
        Self::available()[0]
    }

    /// Every backend that this machine can run, the one with the widest vectors first.
    pub fn available() -> &'static [Self] {
        const ALL: [Backend; 4] = [
            Backend::Avx512,
            Backend::Avx2,
            Backend::Neon,
            Backend::Scalar,
        ];
        // Not a vector: finding it takes no memory.
        static AVAILABLE: OnceLock<([Backend; ALL.len()], usize)> = OnceLock::new();
        let (found, count) = AVAILABLE.get_or_init(|| {
            let (mut found, mut count) = ([Self::Scalar; ALL.len()], 0);
            for backend in ALL.into_iter().filter(|it| it.is_available()) {
                found[count] = backend;
                count += 1;
            }
            (found, count)
        });
        &found[..*count]
    }

    /// Whether this machine, processor and operating system, can run it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Avx512::try_new().is_some(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => Neon::try_new().is_some(),
            #[cfg(not(target_arch = "aarch64"))]
            Self::Neon => false,
        }
    }

    /// Runs a kernel; on the scalar backend if the machine does not have this one.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.run_vectors(kernel) {
            Ok(output) => output,
            Err(kernel) => Scalar.run(kernel),
        }
    }

    /// Runs a kernel that is of use with vectors only; gives it back if this is the scalar backend
    /// or the machine does not have this one.
    pub(crate) fn run_vectors<K: Kernel>(self, kernel: K) -> Result<K::Output, K> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => match Avx2::try_new() {
                Some(isa) => Ok(isa.run(kernel)),
                None => Err(kernel),
            },
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => match Avx512::try_new() {
                Some(isa) => Ok(isa.run(kernel)),
                None => Err(kernel),
            },
            #[cfg(target_arch = "aarch64")]
            Self::Neon => match Neon::try_new() {
                Some(isa) => Ok(isa.run(kernel)),
                None => Err(kernel),
            },
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => Err(kernel),
            #[cfg(not(target_arch = "aarch64"))]
            Self::Neon => Err(kernel),
            Self::Scalar => Err(kernel),
        }
    }

    /// Whether it has a fused multiply-add, and so a use for reciprocals.
    pub(crate) fn has_reciprocal(self) -> bool {
        self != Self::Scalar && self.is_available()
    }

    /// The backend of that name, if this machine can run it.
    ///
    /// # Errors
    /// A name that no backend has; a backend that this machine cannot run.
    ///
    /// ```
    /// use quant_simd::{Backend, BackendError};
    /// assert_eq!(Backend::by_name("scalar"), Ok(Backend::Scalar));
    /// assert!(matches!(Backend::by_name("abacus"), Err(BackendError::Unknown(_))));
    ///
    /// let other = if cfg!(target_arch = "x86_64") { Backend::Neon } else { Backend::Avx2 };
    /// let error = Backend::by_name(other.name()).unwrap_err().to_string();
    /// assert!(error.contains("it is for"));
    /// ```
    pub fn by_name(name: &str) -> Result<Self, BackendError> {
        let backend: Self = name.parse().map_err(BackendError::Unknown)?;
        match backend.is_available() {
            true => Ok(backend),
            false => Err(BackendError::Unavailable(backend)),
        }
    }
}

impl Backend {
    /// Why this machine cannot run it.
    fn obstacle(self) -> String {
        let processor = match self {
            Self::Scalar => return "nothing is amiss".into(),
            Self::Avx2 | Self::Avx512 => "x86_64",
            Self::Neon => "aarch64",
        };
        if processor != std::env::consts::ARCH {
            let this = std::env::consts::ARCH;
            return format!("it is for {processor}, and this program is for {this}");
        }
        if self == Self::Avx512 && cfg!(quant_hide_avx512) {
            return "this program was built without it".into();
        }
        let missing = self.missing();
        match missing.is_empty() {
            true => "it lacks instructions that the backend needs".into(),
            false => format!(
                "its processor or operating system lacks {}",
                missing.join(", ")
            ),
        }
    }

    /// Instructions that are named in the backend's description and that this machine lacks.
    #[cfg(target_arch = "x86_64")]
    fn missing(self) -> Vec<&'static str> {
        macro_rules! missing {
            ($($name:tt)*) => {
                [$((!is_x86_feature_detected!($name)).then_some($name)),*]
                    .into_iter()
                    .flatten()
                    .collect()
            };
        }
        match self {
            Self::Avx2 => missing!("avx2" "fma" "f16c"),
            Self::Avx512 => missing!("avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl"),
            Self::Scalar | Self::Neon => Vec::new(),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn missing(self) -> Vec<&'static str> {
        match self {
            Self::Neon => vec!["neon"],
            Self::Scalar | Self::Avx2 | Self::Avx512 => Vec::new(),
        }
    }
}

quant_core::named!(
    Backend, "backend":
    Scalar "scalar", Avx2 "avx2", Avx512 "avx512", Neon "neon",
);

/// Why a backend cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// No backend has that name.
    #[error(transparent)]
    Unknown(UnknownName),
    /// This machine's processor, or its operating system, lacks instructions: the message names them.
    #[error("this machine cannot run the backend `{0}`: {why}", why = .0.obstacle())]
    Unavailable(Backend),
}
