//! The C functions on slices, blocks and tensors, with one thing wrong or none: what is wrong is
//! told by the documented status. Buffers are no larger than they must be, of any alignment.
#![no_main]

use std::mem::MaybeUninit;
use std::ptr::null_mut;

use QuantStatus::{
    InvalidBlocks, InvalidLength, InvalidParams, NonFinite, NullPointer, Ok as Done,
};
use QuantStatus::{OutOfRange, Overlap, UnknownValue};
use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use quant_capi::*;

fuzz_target!(|bytes: &[u8]| {
    // What is too short says nothing.
    let _ = check(&mut Unstructured::new(bytes));
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

/// An enumeration's number, which need not be one of its own.
fn number<E>(number: u32) -> MaybeUninit<E> {
    const { assert!(size_of::<E>() == size_of::<u32>()) }
    let mut value = MaybeUninit::<E>::uninit();
    // SAFETY: of one size.
    unsafe { value.as_mut_ptr().cast::<u32>().write(number) };
    value
}

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
        },
        _ => QuantParams {
            scale: 1.0,
            zero_point: 0,
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
            (wrong, with) = (Some(InvalidLength), Some(index(n)));
        }
        Fault::Shorter(n) if index(n) != VALUES => {
            let length = &mut buffers[index(n)].length;
            *length = length.wrapping_sub(1);
            (wrong, with) = (Some(InvalidLength), Some(index(n)));
        }
        Fault::Overlap(n) if index(n) != VALUES && !buffers[index(n)].memory.is_empty() => {
            buffers[index(n)].pointer = values;
            (wrong, with) = (Some(Overlap), Some(index(n)));
        }
        Fault::Number(n, number) => {
            numbers[index(n)] = number.max(4);
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
                s.length,
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
                s.length,
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
        };
        let bytes = |i: usize| buffers[i].length.wrapping_mul(widths[i]);
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
