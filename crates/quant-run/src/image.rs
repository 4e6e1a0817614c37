//! Images as inputs of a model that declares them: decoded, scaled, their channels in its order.
//!
//! What Core ML does with a pixel (`scale` and `bias` of `ct.ImageType`) is a part of the program:
//! it begins with numbers from 0 to 255.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use quant_models::program::{ColorSpace, FeatureKind};
use quant_models::quant_core::named;
use quant_models::sniff;

use crate::{Error, ModelInput, Tensor};

/// The most rows and columns of an image.
const LARGEST: u32 = 32_768;

/// The most bytes that an image may take while it is read.
const MOST: u64 = 1 << 30;

/// What happens to an image of another size than the model's.
// Exhaustive: whoever tells what was done to images must say it of a new one, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImageFit {
    /// Scaled until it covers the model's size; what is beyond it on two sides is cut off. Apple's
    /// Vision framework does this unless it is told otherwise.
    #[default]
    Crop,
    /// Scaled to the model's size, whatever its proportions.
    Stretch,
    /// It is an error.
    Exact,
}

named!(ImageFit, "image fit": Crop "crop", Stretch "stretch", Exact "exact");

/// Whether a file is an image, by its name.
pub(crate) fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        ["png", "jpg", "jpeg"]
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    })
}

/// What a model wants of an image.
struct Wanted {
    channels: usize,
    /// Whether blue comes first.
    is_bgr: bool,
    /// The shape of the input, with the size of the image where the model leaves it open.
    rank: usize,
    height: Option<usize>,
    width: Option<usize>,
}

impl Wanted {
    fn new(input: &ModelInput) -> Result<Self, String> {
        let FeatureKind::Image { color, .. } = &input.kind else {
            return Err(format!(
                "an image, but the model declares `{}` as a tensor; give npy, npz or safetensors",
                input.name
            ));
        };
        let (channels, is_bgr) = match color {
            ColorSpace::Rgb => (3, false),
            ColorSpace::Bgr => (3, true),
            ColorSpace::Grayscale => (1, false),
            _ => {
                return Err(format!(
                    "an image, but the model needs `{}` in pixels of float16 or of an unknown kind; give npy, npz or safetensors",
                    input.name
                ));
            }
        };
        let [outer @ .., planes, height, width] = &input.dims[..] else {
            return Err(format!("`{}` has no place for an image", input.name));
        };
        let fits = planes.is_none_or(|planes| planes == channels)
            && outer.iter().all(|dim| dim.is_none_or(|dim| dim == 1));
        if !fits {
            return Err(format!(
                "`{}` is declared as an image of {channels} channels, and has another shape in the program",
                input.name
            ));
        }
        Ok(Self {
            channels,
            is_bgr,
            rank: input.dims.len(),
            height: *height,
            width: *width,
        })
    }

    /// Width and height that an image of this size is to have.
    fn size(&self, (width, height): (u32, u32)) -> Result<(u32, u32), String> {
        let of = |want: Option<usize>, have: u32| {
            let size = want.map_or(Ok(have), u32::try_from).ok();
            let size = size.filter(|size| (1..=LARGEST).contains(size));
            size.ok_or_else(|| "an image of a size that cannot be made".to_string())
        };
        Ok((of(self.width, width)?, of(self.height, height)?))
    }

    /// Pixels as planes of numbers.
    fn tensor(&self, image: DynamicImage) -> Result<Tensor, Error> {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let pixels = match self.channels {
            1 => match image {
                DynamicImage::ImageLuma8(gray) => gray.into_raw(),
                image => image.into_rgb8().pixels().map(luma).collect(),
            },
            _ => image.into_rgb8().into_raw(),
        };
        let mut values = Vec::with_capacity(pixels.len());
        for plane in 0..self.channels {
            let channel = match self.is_bgr {
                true => self.channels - 1 - plane,
                false => plane,
            };
            let of_channel = pixels.iter().skip(channel).step_by(self.channels);
            values.extend(of_channel.map(|&value| f32::from(value)));
        }
        let mut shape = vec![1; self.rank - 3];
        shape.extend([self.channels, height, width]);
        Tensor::from_floats(&shape, values)
    }
}

/// Brightness by ITU-R BT.601, rounded as Pillow's mode `L` is: what coremltools users give.
fn luma(&image::Rgb([red, green, blue]): &image::Rgb<u8>) -> u8 {
    let [red, green, blue] = [red, green, blue].map(u32::from);
    ((19_595 * red + 38_470 * green + 7_471 * blue + 0x8000) >> 16) as u8
}

type Decoder<'a> = Box<dyn ImageDecoder + 'a>;

/// Opens an image and says how it is to be turned, and its size thereafter.
fn open<T>(
    path: &Path,
    with: impl FnOnce(Decoder<'_>, image::metadata::Orientation, (u32, u32)) -> Result<T, String>,
) -> Result<T, Error> {
    let fail = |problem: String| Error::sample(path, problem);
    // Before it is opened: a pipe would wait for somebody to write.
    let found = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?;
    if !found.is_file() {
        return Err(fail("not a file".into()));
    }
    let file = File::open(path).map_err(|error| fail(error.to_string()))?;
    let damaged = |error: image::ImageError| format!("a damaged image: {error}");
    // What it is, its first bytes say; names of images are wrong often enough.
    let reader = ImageReader::new(BufReader::new(file)).with_guessed_format();
    let mut reader = reader.map_err(|error| fail(error.to_string()))?;
    if reader.format().is_none() {
        let problem = "no image: neither png nor jpeg";
        return Err(fail(sniff::instead_at(path, b"", problem.into())));
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(LARGEST);
    limits.max_image_height = Some(LARGEST);
    limits.max_alloc = Some(MOST);
    reader.limits(limits);
    let decoder = reader
        .into_decoder()
        .map_err(|error| fail(damaged(error)))?;
    let mut decoder: Decoder<'_> = Box::new(decoder);
    let turned = decoder
        .orientation()
        .map_err(|error| fail(damaged(error)))?;
    use image::metadata::Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    let (width, height) = decoder.dimensions();
    let size = match turned {
        Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH => (height, width),
        _ => (width, height),
    };
    with(decoder, turned, size).map_err(fail)
}

/// Whether an image has another size than an input of a model.
///
/// # Errors
/// A file that is no image, or an input that is none.
pub(crate) fn is_scaled(path: &Path, input: &ModelInput) -> Result<bool, Error> {
    let wanted = Wanted::new(input).map_err(|problem| Error::sample(path, problem))?;
    open(path, |_, _, size| Ok(wanted.size(size)? != size))
}

/// Reads an image as an input of a model.
///
/// # Errors
/// A file that is no image, or an input that is none; another size, where it is to be exact.
pub(crate) fn read(path: &Path, input: &ModelInput, fit: ImageFit) -> Result<Tensor, Error> {
    let wanted = Wanted::new(input).map_err(|problem| Error::sample(path, problem))?;
    let image = open(path, |decoder, turned, size| {
        let (width, height) = wanted.size(size)?;
        let image = DynamicImage::from_decoder(decoder);
        let mut image = image.map_err(|error| format!("a damaged image: {error}"))?;
        image.apply_orientation(turned);
        if (width, height) == size {
            return Ok(image);
        }
        Ok(match fit {
            ImageFit::Crop => image.resize_to_fill(width, height, FilterType::Triangle),
            ImageFit::Stretch => image.resize_exact(width, height, FilterType::Triangle),
            ImageFit::Exact => {
                let (have, high) = size;
                return Err(format!(
                    "an image of {have} x {high} pixels, where the model needs {width} x {height}"
                ));
            }
        })
    })?;
    wanted.tensor(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quant_models::program::ElementType;

    fn input(color: ColorSpace, dims: &[usize]) -> ModelInput {
        ModelInput {
            name: "image".into(),
            element: ElementType::Float32,
            dims: dims.iter().map(|&dim| (dim > 0).then_some(dim)).collect(),
            kind: FeatureKind::Image {
                width: 4,
                height: 2,
                color,
            },
        }
    }

    /// Red, green and blue count up along the rows.
    fn picture(width: u32, height: u32) -> image::RgbImage {
        image::RgbImage::from_fn(width, height, |x, y| {
            let i = (y * width + x) as u8;
            image::Rgb([i, 100 + i, 200 + i])
        })
    }

    #[test]
    fn planes_come_in_the_order_of_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.PNG");
        let picture = picture(4, 2);
        picture
            .save_with_format(&path, image::ImageFormat::Png)
            .unwrap();
        let planes = |color, dims: &[usize]| {
            let tensor = read(&path, &input(color, dims), ImageFit::Exact).unwrap();
            (tensor.shape().to_vec(), tensor.floats().unwrap().to_vec())
        };
        let plane = |from: u8| (from..from + 8).map(f32::from).collect::<Vec<_>>();
        let (shape, rgb) = planes(ColorSpace::Rgb, &[1, 3, 2, 4]);
        assert_eq!(shape, [1, 3, 2, 4]);
        assert_eq!(rgb, [plane(0), plane(100), plane(200)].concat());
        let (_, bgr) = planes(ColorSpace::Bgr, &[1, 3, 2, 4]);
        assert_eq!(bgr, [plane(200), plane(100), plane(0)].concat());
        // A model that takes any size takes the image's.
        let (shape, _) = planes(ColorSpace::Rgb, &[3, 0, 0]);
        assert_eq!(shape, [3, 2, 4]);
        let (shape, gray) = planes(ColorSpace::Grayscale, &[1, 1, 2, 4]);
        assert_eq!(shape, [1, 1, 2, 4]);
        assert_eq!(gray[0], (0.587_f32 * 100.0 + 0.114 * 200.0).round());
    }

    #[test]
    fn other_sizes_are_cut_or_stretched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        // The outer quarters are black, the middle white.
        let wide = image::RgbImage::from_fn(16, 4, |x, _| {
            image::Rgb([if (4..12).contains(&x) { 255 } else { 0 }; 3])
        });
        wide.save(&path).unwrap();
        let input = input(ColorSpace::Rgb, &[1, 3, 2, 4]);
        let row = |fit| {
            let tensor = read(&path, &input, fit).unwrap();
            tensor.floats().unwrap()[..4].to_vec()
        };
        assert!(is_scaled(&path, &input).unwrap());
        let cut = row(ImageFit::Crop);
        assert!(cut.iter().all(|&value| value > 200.0), "{cut:?}");
        let stretched = row(ImageFit::Stretch);
        assert!(stretched[0] < 64.0 && stretched[1] > 190.0, "{stretched:?}");
        let error = read(&path, &input, ImageFit::Exact)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("16 x 4") && error.contains("4 x 2"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_image_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jpg");
        let input = input(ColorSpace::Rgb, &[1, 3, 2, 4]);
        let refused = |bytes: &[u8], input: &ModelInput| {
            std::fs::write(&path, bytes).unwrap();
            let error = read(&path, input, ImageFit::Crop).unwrap_err().to_string();
            assert!(error.contains("a.jpg"), "{error}");
            error
        };
        assert!(refused(b"hello", &input).contains("neither png nor jpeg"));
        assert!(refused(b"\xff\xd8\xff\xe0 cut off", &input).contains("damaged"));
        let mut huge = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        huge.extend([0xff; 17]);
        assert!(refused(&huge, &input).contains("damaged"));
        let mut bytes = std::io::Cursor::new(Vec::new());
        let format = image::ImageFormat::Png;
        picture(4, 2).write_to(&mut bytes, format).unwrap();
        let mut tensor = input.clone();
        tensor.kind = FeatureKind::Tensor(vec![1, 3, 2, 4]);
        assert!(refused(bytes.get_ref(), &tensor).contains("declares `image` as a tensor"));
    }
}
