//! The C functions, with one thing wrong or none: what is wrong is
//! told by the documented status. Buffers are no larger than they must be, of any alignment.
#![no_main]

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ptr::null_mut;

use QuantStatus::{
    InvalidBlocks, InvalidLength, InvalidParams, NonFinite, NullPointer, Ok as Done,
};
use QuantStatus::{
    InvalidCodesSize, InvalidScalesSize, InvalidShape, InvalidValuesSize, InvalidZeroPointsSize,
    OutOfRange, Overlap, UnknownValue,
};
use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use quant_capi::*;

fuzz_target!(|bytes: &[u8]| {
    // What is too short says nothing.
    let u = &mut Unstructured::new(bytes);
    let _ = match u.arbitrary() {
        Ok(true) => check_ggml(u).and_then(|()| check_rest(u)),
        _ => check(u),
    };
});

/// What is wrong: with a buffer, by its number, or with a number.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
enum Fault {
    Nothing,
    Null(u8),
    Longer(u8),
    Shorter(u8),
    /// It begins where the values do.
    Overlap(u8),
    Number(u8, u32),
    NoBlock,
}

const VALUES: usize = 0;
const CODES: usize = 1;

/// Numbers of enumerations from which on there are none.
const DIALECTS: u32 = quant_core::Dialect::ALL.len() as u32;
const CODES_KNOWN: u32 = quant_core::IntType::ALL.len() as u32;

/// As it is passed; `length` is what the functions on slices and blocks call its size.
struct Buffer {
    memory: Vec<u8>,
    pointer: *mut u8,
    length: usize,
}

impl Buffer {
    fn new(u: &mut Unstructured<'_>, bytes: usize, length: usize) -> Result<Self> {
        let shift = if bytes == 0 {
            0
        } else {
            u.int_in_range(0..=3)?
        };
        let mut memory = vec![0x3c; shift + bytes];
        let given = bytes.min(u.len());
        u.fill_buffer(&mut memory[shift..shift + given])?;
        let pointer = memory.as_mut_ptr().wrapping_add(shift);
        Ok(Self {
            memory,
            pointer,
            length,
        })
    }
}

/// What a wrong size of each buffer is told by.
const SIZES: [QuantStatus; 4] = [
    InvalidValuesSize,
    InvalidCodesSize,
    InvalidScalesSize,
    InvalidZeroPointsSize,
];

/// An enumeration's number, which need not be one of its own.
fn number<E>(number: u32) -> MaybeUninit<E> {
    const { assert!(size_of::<E>() == size_of::<u32>()) }
    let mut value = MaybeUninit::<E>::uninit();
    // SAFETY: of one size.
    unsafe { value.as_mut_ptr().cast::<u32>().write(number) };
    value
}

// Long: one input to all functions that need a scheme's codes, whose arguments take a line each.
fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let fault: Fault = u.arbitrary()?;
    // Float, code, mode, dialect.
    let mut numbers = [0; 4];
    for (number, most) in numbers.iter_mut().zip([2, 3, 1, 1]) {
        *number = u.int_in_range(0..=most)?;
    }
    let (count, mut block) = (u.int_in_range(0..=300)?, u.int_in_range(1..=70)?);
    let width = if numbers[0] == 0 { 4 } else { 2 };
    let scale_width = if numbers[3] == 1 { 4 } else { width };
    let blocks = usize::div_ceil(count, block);
    let codes = if numbers[1] < 2 {
        count
    } else {
        count.div_ceil(2)
    };
    let stored = numbers[2] == 1 || numbers[1] % 2 == 1;
    let zeros = if stored { blocks } else { 0 };
    let widths = [width, 1, scale_width, 1];
    let mut buffers = [
        Buffer::new(u, count * width, count)?,
        Buffer::new(u, codes, codes)?,
        Buffer::new(u, blocks * scale_width, blocks)?,
        Buffer::new(u, zeros, zeros)?,
    ];
    let params = match fault {
        Fault::Nothing => QuantParams {
            scale: u.arbitrary()?,
            zero_point: u.arbitrary()?,
            bias: u.arbitrary()?,
        },
        _ => QuantParams {
            scale: 1.0,
            zero_point: 0,
            bias: 0.0,
        },
    };

    // What is wrong, with which buffer, if with one.
    let (mut wrong, mut with) = (None, None);
    let index = |number: u8| usize::from(number) % 4;
    let values = buffers[VALUES].pointer;
    match fault {
        Fault::Null(n) if !buffers[index(n)].memory.is_empty() => {
            buffers[index(n)].pointer = null_mut();
            (wrong, with) = (Some(NullPointer), Some(index(n)));
        }
        Fault::Longer(n) if index(n) != VALUES => {
            buffers[index(n)].length += 1;
            (wrong, with) = (Some(SIZES[index(n)]), Some(index(n)));
        }
        Fault::Shorter(n) if index(n) != VALUES => {
            let length = &mut buffers[index(n)].length;
            *length = length.wrapping_sub(1);
            (wrong, with) = (Some(SIZES[index(n)]), Some(index(n)));
        }
        Fault::Overlap(n) if index(n) != VALUES && !buffers[index(n)].memory.is_empty() => {
            buffers[index(n)].pointer = values;
            (wrong, with) = (Some(Overlap), Some(index(n)));
        }
        Fault::Number(n, number) => {
            numbers[index(n)] = number.max(99);
            wrong = Some(UnknownValue);
        }
        Fault::NoBlock => block = 0,
        _ => {}
    }
    let float = number(numbers[0]);
    let scheme = QuantScheme {
        dtype: number(numbers[1]),
        mode: number(numbers[2]),
        dialect: number(numbers[3]),
    };
    let expect =
        |got: QuantStatus, wrong: Option<QuantStatus>, possible: &[QuantStatus]| match wrong {
            Some(wrong) => assert_eq!(got, wrong, "{fault:?}"),
            None => assert!(possible.contains(&got), "{got:?}, {fault:?}"),
        };
    let [v, c, s, z] = &buffers;

    // Buffers that these do not know cannot be wrong.
    let wrong_here = wrong.filter(|_| with.is_none_or(|it| it <= CODES));
    // SAFETY: buffers of these lengths, or what is refused.
    let (to, from, same) = unsafe {
        (
            quant_quantize(
                float,
                v.pointer.cast(),
                count,
                scheme,
                params,
                c.pointer,
                c.length,
                null_mut(),
            ),
            quant_dequantize(
                float,
                c.pointer,
                c.length,
                scheme,
                params,
                v.pointer.cast(),
                count,
            ),
            quant_fake_quantize(
                float,
                v.pointer.cast(),
                count,
                scheme,
                params,
                v.pointer.cast(),
                null_mut(),
            ),
        )
    };
    expect(to, wrong_here, &[Done, InvalidParams]);
    expect(from, wrong_here, &[Done, InvalidParams]);
    let wrong_there = wrong.filter(|_| with.is_none_or(|it| it == VALUES));
    expect(same, wrong_there, &[Done, InvalidParams]);

    let bytes = |i: usize| buffers[i].length.wrapping_mul(widths[i]);
    let wrong_blocks = wrong.or((block == 0).then_some(InvalidBlocks));
    // SAFETY: as above.
    let (to, from) = unsafe {
        (
            quant_quantize_blocks(
                float,
                v.pointer.cast(),
                count,
                block,
                scheme,
                c.pointer,
                c.length,
                s.pointer.cast(),
                bytes(2),
                z.pointer,
                z.length,
            ),
            quant_dequantize_blocks(
                float,
                c.pointer,
                c.length,
                block,
                scheme,
                s.pointer.cast(),
                bytes(2),
                z.pointer,
                z.length,
                v.pointer.cast(),
                count,
            ),
        )
    };
    expect(to, wrong_blocks, &[Done, NonFinite, OutOfRange]);
    expect(from, wrong_blocks, &[Done, InvalidParams]);

    if block > 0 {
        let (shape, sizes) = ([count], [block.min(count)]);
        let tensor = QuantTensor {
            dtype: float,
            scheme,
            rank: 1,
            shape: shape.as_ptr(),
            block_sizes: sizes.as_ptr(),
            reserved: [0; 4],
        };
        // SAFETY: as above.
        let (to, from) = unsafe {
            (
                quant_quantize_tensor(
                    &tensor,
                    v.pointer.cast(),
                    bytes(0),
                    c.pointer,
                    bytes(1),
                    s.pointer.cast(),
                    bytes(2),
                    z.pointer,
                    bytes(3),
                    1,
                    null_mut(),
                    null_mut(),
                ),
                quant_dequantize_tensor(
                    &tensor,
                    c.pointer,
                    bytes(1),
                    s.pointer.cast(),
                    bytes(2),
                    z.pointer,
                    bytes(3),
                    float,
                    v.pointer.cast(),
                    bytes(0),
                    1,
                    null_mut(),
                ),
            )
        };
        expect(to, wrong, &[Done, NonFinite, OutOfRange]);
        expect(from, wrong, &[Done, InvalidParams]);
    }
    Ok(())
}

/// Blocks of ggml; one size or number may be wrong.
fn check_ggml(u: &mut Unstructured<'_>) -> Result<()> {
    let (count, float) = (32 * u.int_in_range(0..=9)?, u.int_in_range(0..=2)?);
    let (block_type, block_size) = [(0, 34), (1, 18), (2, 20), (3, 22), (4, 24)][u.choose_index(5)?];
    let (width, size) = (if float == 0 { 4 } else { 2 }, count / 32 * block_size);
    let values = Buffer::new(u, count * width, count)?;
    let blocks = Buffer::new(u, size, size)?;
    let extra = usize::from(u.arbitrary::<bool>()?);
    let mut needed = usize::MAX;
    // SAFETY: buffers of these lengths, or what is refused.
    let call = |block_type: u32, count: usize, size: usize| unsafe {
        (
            quant_ggml_quantize(
                number(float),
                values.pointer.cast(),
                count,
                number(block_type),
                blocks.pointer,
                size,
            ),
            quant_ggml_dequantize(
                number(float),
                blocks.pointer,
                size,
                number(block_type),
                values.pointer.cast(),
                count,
            ),
        )
    };
    // SAFETY: the result is there.
    let got = unsafe { quant_ggml_size(number(block_type), count, &mut needed) };
    assert_eq!((got, needed), (Done, size));
    let (to, from) = call(block_type, count, size + extra);
    if extra > 0 {
        assert_eq!((to, from), (InvalidCodesSize, InvalidCodesSize));
    } else {
        assert!([Done, NonFinite, OutOfRange].contains(&to), "{to:?}");
        assert!([Done, InvalidParams].contains(&from), "{from:?}");
    }
    let (to, from) = call(block_type, count + 1, size);
    assert_eq!((to, from), (InvalidBlocks, InvalidBlocks));
    let (to, from) = call(5, count, size);
    assert_eq!((to, from), (UnknownValue, UnknownValue));
    Ok(())
}

/// Those that need no scheme's codes: what they are given, and a status that tells what is wrong.
// Long: one input to many functions of the header, whose arguments take a line each.
fn check_rest(u: &mut Unstructured<'_>) -> Result<()> {
    let (known, wrong): (bool, u32) = (u.arbitrary()?, u.arbitrary()?);
    let kind = |valid: u32, first_unknown: u32| match known {
        true => valid,
        false => wrong.max(first_unknown),
    };
    let unknown = (!known).then_some(UnknownValue);
    let is = |got: QuantStatus, wrong: Option<QuantStatus>| {
        assert_eq!(got, wrong.unwrap_or(Done), "{known} {wrong:?}");
    };
    let count = u.int_in_range(0..=300)?;
    let float = u.int_in_range(0..=2)?;
    let width = if float == 0 { 4 } else { 2 };
    let values = Buffer::new(u, count * width, count)?;
    let missing = u.arbitrary()?;
    let pointer = if missing { null_mut() } else { values.pointer };
    let null = (missing && count > 0).then_some(NullPointer);
    let (mut range, mut stats) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: buffers of these lengths, or what is refused.
    let (found, lost) = unsafe {
        (
            quant_range(
                number(kind(float, 3)),
                pointer.cast(),
                count,
                range.as_mut_ptr(),
            ),
            quant_error_stats(
                number(float),
                pointer.cast(),
                number(kind(float, 3)),
                pointer.cast(),
                count,
                stats.as_mut_ptr(),
            ),
        )
    };
    for got in [found, lost] {
        match (null, unknown) {
            (Some(null), Some(unknown)) => assert!(got == null || got == unknown, "{got:?}"),
            (null, unknown) => is(got, null.or(unknown)),
        }
    }

    let code = u.int_in_range(0..=3)?;
    let scheme = QuantScheme {
        dtype: number(code),
        mode: number(u.int_in_range(0..=1)?),
        dialect: number(kind(u.int_in_range(0..=1)?, DIALECTS)),
    };
    let given = QuantRange {
        min: u.arbitrary()?,
        max: u.arbitrary()?,
        non_finite: u.arbitrary()?,
    };
    let mut params = MaybeUninit::uninit();
    let mut size = usize::MAX;
    let length: usize = u.arbitrary()?;
    // SAFETY: results are there, or what is refused.
    let (of_range, of_codes, without) = unsafe {
        (
            quant_params_from_range(number(float), given, scheme, params.as_mut_ptr()),
            quant_codes_size(number(kind(code, CODES_KNOWN)), length, &mut size),
            quant_codes_size(number(code), length, null_mut()),
        )
    };
    match unknown {
        Some(unknown) => is(of_range, Some(unknown)),
        None => assert!(
            [Done, InvalidParams, NonFinite, OutOfRange].contains(&of_range),
            "{of_range:?}"
        ),
    }
    is(of_codes, unknown);
    is(without, Some(NullPointer));
    if known {
        assert_eq!(size, if code < 2 { length } else { length.div_ceil(2) });
    }

    let codes = Buffer::new(u, count, count)?;
    let extra = usize::from(u.arbitrary::<bool>()?);
    let packed = Buffer::new(u, count.div_ceil(2) + extra, count.div_ceil(2) + extra)?;
    let length = (extra > 0).then_some(InvalidCodesSize);
    // SAFETY: buffers of these lengths, or what is refused.
    let (pack, unpack, of_bytes, onto) = unsafe {
        (
            quant_pack4(codes.pointer, count, packed.pointer, packed.length),
            quant_unpack4(
                number(2 + code % 2),
                packed.pointer,
                packed.length,
                codes.pointer,
                count,
            ),
            quant_unpack4(
                number(kind(code % 2, CODES_KNOWN)),
                packed.pointer,
                count.div_ceil(2),
                codes.pointer,
                count,
            ),
            quant_pack4(codes.pointer, count, codes.pointer, count.div_ceil(2)),
        )
    };
    is(pack, length);
    is(unpack, length);
    is(of_bytes, Some(UnknownValue));
    is(onto, (count > 0).then_some(Overlap));

    let shape: [usize; 3] = u.arbitrary()?;
    let sizes: [usize; 3] = u.arbitrary()?;
    let tensor = QuantTensor {
        dtype: number(float),
        scheme,
        rank: u.int_in_range(0..=3)?,
        shape: shape.as_ptr(),
        block_sizes: sizes.as_ptr(),
        reserved: [0; 4],
    };
    let mut needed = MaybeUninit::uninit();
    // SAFETY: the arrays hold `rank` numbers, and the result is there.
    let got = unsafe { quant_tensor_sizes(&tensor, needed.as_mut_ptr()) };
    let possible: &[_] = match known {
        true => &[Done, InvalidLength, InvalidShape, InvalidBlocks],
        false => &[UnknownValue],
    };
    assert!(possible.contains(&got), "{got:?}");

    let mut list = [const { MaybeUninit::<QuantBackend>::uninit() }; 8];
    let capacity = u.int_in_range(0..=list.len())?;
    // SAFETY: there is room for so many; texts are static and end.
    unsafe {
        let available = quant_backend_list(list.as_mut_ptr().cast(), capacity);
        assert!((1..=list.len()).contains(&available));
        for text in [
            quant_version(),
            quant_status_string(number(wrong)),
            quant_backend_name(number(wrong)),
            quant_backend_name(number(quant_backend_detect() as u32)),
        ] {
            assert!(text.is_null() || CStr::from_ptr(text).to_str().is_ok());
        }
    }
    Ok(())
}
