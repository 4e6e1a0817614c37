//! When to store past the cache: non-temporal stores.

use std::sync::OnceLock;

/// Whether a kernel that reads and writes so many bytes should use non-temporal stores: where
/// these exceed the last-level cache, a line that is stored whole need not be read first. What
/// fits the cache is better left there for whoever reads it next.
#[inline]
pub fn is_worthwhile(read: usize, written: usize) -> bool {
    is_beyond_cache(read + written)
}

/// Whether so many bytes exceed the last-level cache.
#[inline]
pub fn is_beyond_cache(bytes: usize) -> bool {
    bytes > last_level_cache()
}

/// Bytes; as the processor says, or a common size where it says nothing.
#[inline]
fn last_level_cache() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(|| detect().unwrap_or(32 << 20))
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Option<usize> {
    let caches = raw_cpuid::CpuId::new().get_cache_parameters()?;
    let sizes = caches.map(|cache| {
        cache.associativity()
            * cache.physical_line_partitions()
            * cache.coherency_line_size()
            * cache.sets()
    });
    sizes.max()
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Option<usize> {
    None
}
