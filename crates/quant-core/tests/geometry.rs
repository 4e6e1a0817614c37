//! Geometry on random shapes and blocks, against index arithmetic on every axis.

use proptest::prelude::*;
use quant_core::{Blocks, GeometryError, Granularity, IntType, reference};

fn shape_and_blocks() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
    prop::collection::vec((1_usize..9).prop_flat_map(|dim| (Just(dim), 0..=dim)), 0..5)
        .prop_map(|axes| axes.into_iter().unzip())
}

proptest! {
    #[test]
    fn runs_cover_every_element_once((shape, sizes) in shape_and_blocks(), cut in 0.0..1.0) {
        let blocks = Blocks::new(&shape, &Granularity::Blocks(sizes)).unwrap();
        let n = blocks.element_count();
        let cut = (n as f64 * cut) as usize;
        let mut next = 0;
        let mut used = vec![false; blocks.scale_count()];
        for run in blocks.runs(0..cut).chain(blocks.runs(cut..n)) {
            prop_assert_eq!(run.elements.start, next);
            prop_assert!(!run.elements.is_empty());
            for element in run.elements.clone() {
                prop_assert_eq!(blocks.scale_of(element), run.scale);
            }
            used[run.scale] = true;
            next = run.elements.end;
        }
        prop_assert_eq!(next, n);
        prop_assert!(used.into_iter().all(|used| used));
    }

    #[test]
    fn pack_and_unpack_round_trip(codes in prop::collection::vec(-8_i8..8, 0..40)) {
        let codes: Vec<u8> = codes.into_iter().map(|code| code as u8).collect();
        let mut packed = vec![0xaa; codes.len().div_ceil(2)];
        reference::pack(&codes, IntType::Int4, &mut packed);
        let mut back = vec![0; codes.len()];
        reference::unpack(&packed, IntType::Int4, &mut back);
        prop_assert_eq!(back, codes);
    }
}

#[test]
fn per_channel_runs_are_whole_channels() {
    let blocks = Blocks::new(&[4, 3, 5], &Granularity::PerChannel { axis: 0 }).unwrap();
    let runs: Vec<_> = blocks.runs(0..60).map(|run| run.elements).collect();
    assert_eq!(runs, [0..15, 15..30, 30..45, 45..60]);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let per_block = |axis, block_axis, block_size| Granularity::PerBlock {
        axis,
        block_axis,
        block_size,
    };
    let error = |granularity| Blocks::new(&[4, 6], &granularity).unwrap_err();
    assert_eq!(error(per_block(0, 1, 0)), GeometryError::ZeroBlock);
    assert_eq!(
        error(per_block(0, -2, 2)),
        GeometryError::SameAxis { axis: 0 }
    );
    assert_eq!(
        error(per_block(0, 1, 7)),
        GeometryError::BlockTooLarge {
            axis: 1,
            block: 7,
            dim: 6
        }
    );
    assert_eq!(
        error(Granularity::PerChannel { axis: 2 }),
        GeometryError::AxisOutOfRange { axis: 2, rank: 2 }
    );
    assert_eq!(
        Blocks::new(&[usize::MAX, 2], &Granularity::PerTensor),
        Err(GeometryError::TooLarge)
    );
}
