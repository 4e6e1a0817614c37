//! One kernel at one size with all its contenders, on the same input.

use std::hint::black_box;

use bytemuck::Pod;
use quant_simd::Backend;

use crate::buffer::Buffer;
use crate::limit::Limit;

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// The same loads and stores, and no arithmetic.
    Limit(Limit),
    /// A copy of the input.
    Memcpy,
    /// This project.
    Backend(Backend),
    /// Another library.
    Peer(&'static str),
}

impl Contender {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Limit(limit) => limit.name(),
            Self::Memcpy => "memcpy",
            Self::Backend(backend) => backend.name(),
            Self::Peer(name) => name,
        }
    }
}

/// A kernel, its buffers and its contenders.
pub trait Case {
    /// Bytes that one call reads and writes, scales aside.
    fn bytes(&self, contender: Contender) -> usize;
    /// Everyone who can do this work.
    fn contenders(&self) -> Vec<Contender>;
    /// Calls `contender` so many times.
    ///
    /// # Panics
    /// If it is not one of [`Case::contenders`].
    fn run(&mut self, contender: Contender, times: u64);
}

type Call<I> = dyn FnMut(&[I]);

/// A peer's implementation, which owns its output.
pub struct Peer<I> {
    pub name: &'static str,
    pub call: Box<Call<I>>,
}

pub struct SliceCase<I, O, K> {
    pub input: Buffer<I>,
    pub output: Buffer<O>,
    pub kernel: K,
    pub peers: Vec<Peer<I>>,
    copy: Buffer<I>,
}

impl<I: Pod, O: Pod, K> SliceCase<I, O, K>
where
    K: FnMut(Backend, &[I], &mut [O]),
{
    pub fn new(input: Buffer<I>, outputs: usize, kernel: K, peers: Vec<Peer<I>>) -> Self {
        Self {
            copy: Buffer::new(input.len(), |i| input[i]),
            output: Buffer::new(outputs, |_| O::zeroed()),
            input,
            kernel,
            peers,
        }
    }
}

impl<I: Pod, O: Pod, K> Case for SliceCase<I, O, K>
where
    K: FnMut(Backend, &[I], &mut [O]),
{
    fn bytes(&self, contender: Contender) -> usize {
        size_of_val(&*self.input)
            + match contender {
                Contender::Memcpy => size_of_val(&*self.copy),
                _ => size_of_val(&*self.output),
            }
    }

    fn contenders(&self) -> Vec<Contender> {
        let limits = Limit::available(!self.output.is_empty()).iter();
        let backends = Backend::available().iter();
        limits
            .map(|&limit| Contender::Limit(limit))
            .chain([Contender::Memcpy])
            .chain(backends.map(|&backend| Contender::Backend(backend)))
            .chain(self.peers.iter().map(|peer| Contender::Peer(peer.name)))
            .collect()
    }

    fn run(&mut self, contender: Contender, times: u64) {
        let (input, output) = (&*self.input, &mut *self.output);
        match contender {
            Contender::Limit(limit) => {
                for _ in 0..times {
                    limit.pass(
                        bytemuck::cast_slice(black_box(input)),
                        bytemuck::cast_slice_mut(black_box(&mut *output)),
                    );
                }
            }
            Contender::Memcpy => {
                for _ in 0..times {
                    black_box(&mut *self.copy).copy_from_slice(black_box(input));
                }
            }
            Contender::Backend(backend) => {
                for _ in 0..times {
                    (self.kernel)(backend, black_box(input), black_box(&mut *output));
                }
            }
            Contender::Peer(name) => {
                let mut peers = self.peers.iter_mut();
                let peer = peers.find(|peer| peer.name == name).expect("a contender");
                for _ in 0..times {
                    (peer.call)(black_box(input));
                }
            }
        }
    }
}
