use bytemuck::Pod;

/// Bytes, so many elements behind a multiple of 64 bytes.
pub struct Buffer {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

const ALIGNMENT: usize = 64;

impl Buffer {
    fn new(len: usize, offset: usize) -> Self {
        let memory = vec![0; len + offset + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT) + offset;
        Self { memory, start, len }
    }

    /// Holds these elements.
    pub fn of<T: Pod>(elements: &[T], offset: usize) -> Self {
        let bytes = bytemuck::cast_slice(elements);
        let mut buffer = Self::new(bytes.len(), offset * size_of::<T>());
        buffer.get_mut::<u8>().copy_from_slice(bytes);
        buffer
    }

    /// Buffer for as many elements, which holds something already: what is left out shows.
    pub fn unwritten<T: Pod>(count: usize, offset: usize) -> Self {
        let size = size_of::<T>();
        let mut buffer = Self::new(count * size, offset * size);
        for (i, byte) in buffer.get_mut::<u8>().iter_mut().enumerate() {
            *byte = 0xa5 ^ i as u8;
        }
        buffer
    }

    pub fn get<T: Pod>(&self) -> &[T] {
        bytemuck::cast_slice(&self.memory[self.start..self.start + self.len])
    }

    pub fn get_mut<T: Pod>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.memory[self.start..self.start + self.len])
    }
}
