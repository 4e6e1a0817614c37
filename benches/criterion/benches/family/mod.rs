//! One family of kernels under criterion: a group per kernel, every contender at every size.

use std::time::{Duration, Instant};

use benches::{Contender, KERNELS, Limit, SIZES, size_name};
use criterion::{BenchmarkId, Criterion, Throughput};

pub fn measure(criterion: &mut Criterion, family: &str) {
    assert!(KERNELS.iter().any(|kernel| kernel.family == family));
    for kernel in KERNELS.iter().filter(|kernel| kernel.family == family) {
        let mut group = criterion.benchmark_group(format!("{} {}", kernel.id, kernel.name));
        group
            .sample_size(20)
            .warm_up_time(Duration::from_millis(100))
            .measurement_time(Duration::from_millis(400));
        for size in SIZES {
            // A search takes as long per value wherever the values are, and the scalar one seconds.
            if family == "search" && size > 1 << 20 {
                continue;
            }
            let mut case = (kernel.case)(size);
            for contender in case.contenders() {
                // Narrower loops are for `cargo xtask bench`, which looks for the fastest.
                if matches!(
                    contender,
                    Contender::Limit(Limit::Narrow | Limit::NarrowNonTemporal)
                ) {
                    continue;
                }
                group.throughput(Throughput::ElementsAndBytes {
                    elements: size as u64,
                    bytes: case.bytes(contender) as u64,
                });
                let id = BenchmarkId::new(contender.name(), size_name(size));
                group.bench_function(id, |bencher| {
                    bencher.iter_custom(|times| {
                        let start = Instant::now();
                        case.run(contender, times);
                        start.elapsed()
                    });
                });
            }
        }
        group.finish();
    }
}
