//! Non-maximum suppression.

use super::Table;
use crate::call::Call;
use crate::index::permute;
use crate::tensor::Tensor;

pub(super) const TABLE: Table = &[("non_maximum_suppression", suppress)];

/// Boxes of one image and their scores.
struct Boxes<'a> {
    /// Centre and size of each.
    boxes: &'a [f32],
    scores: &'a [f32],
    classes: usize,
}

impl Boxes<'_> {
    /// The greatest score of a box, and its class.
    fn best(&self, at: usize) -> (f32, usize) {
        let scores = &self.scores[at * self.classes..(at + 1) * self.classes];
        let mut best = (f32::NEG_INFINITY, 0);
        for (class, &score) in scores.iter().enumerate() {
            if score > best.0 {
                best = (score, class);
            }
        }
        best
    }

    /// Intersection over union.
    fn overlap(&self, a: usize, b: usize) -> f32 {
        let corners = |at: usize| {
            let [x, y, w, h] = [0, 1, 2, 3].map(|i| self.boxes[at * 4 + i]);
            [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0]
        };
        let ([ax, ay, ar, ab], [bx, by, br, bb]) = (corners(a), corners(b));
        let area = |l: f32, t: f32, r: f32, b: f32| (r - l).max(0.0) * (b - t).max(0.0);
        let common = area(ax.max(bx), ay.max(by), ar.min(br), ab.min(bb));
        let all = area(ax, ay, ar, ab) + area(bx, by, br, bb) - common;
        if all > 0.0 { common / all } else { 0.0 }
    }
}

/// What is left of all images.
#[derive(Default)]
struct Found {
    boxes: Vec<f32>,
    scores: Vec<f32>,
    indices: Vec<i32>,
    counts: Vec<i32>,
}

impl Found {
    /// The boxes of an image that are kept, filled up to `most`.
    fn add(&mut self, image: &Boxes<'_>, kept: &[usize], most: usize) {
        let classes = image.classes;
        for slot in 0..most {
            match kept.get(slot) {
                Some(&at) => {
                    self.boxes
                        .extend_from_slice(&image.boxes[at * 4..at * 4 + 4]);
                    let scores = &image.scores[at * classes..(at + 1) * classes];
                    self.scores.extend_from_slice(scores);
                    self.indices.push(at as i32);
                }
                None => {
                    self.boxes.extend([0.0; 4]);
                    self.scores.extend(std::iter::repeat_n(0.0, classes));
                    self.indices.push(-1);
                }
            }
        }
        self.counts.push(kept.len() as i32);
    }
}

fn suppress(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let (boxes, scores) = (call.tensor("boxes")?, call.tensor("scores")?);
    // Since iOS17 the boxes are the last dimension, and there is no count.
    let last = call.outputs.len() == 3;
    let fail = || {
        let (a, b) = (&boxes.shape, &scores.shape);
        format!("boxes of shape {a:?} with scores of {b:?}")
    };
    let (&[n, p, q], &[m, r, s]) = (&boxes.shape[..], &scores.shape[..]) else {
        return Err(fail());
    };
    let ((count, four), (others, classes)) = match last {
        true => ((q, p), (s, r)),
        false => ((p, q), (r, s)),
    };
    if four != 4 || n != m || count != others || classes == 0 {
        return Err(fail());
    }
    let most = usize::try_from(call.int("max_boxes", 0)?).map_err(|_| "a negative `max_boxes`")?;
    call.room(&[n, most, classes.max(4)])?;
    let threshold = call.float("iou_threshold", 0.0)?;
    let least = match call.optional("score_threshold") {
        Some(_) => call.float("score_threshold", 0.0)?,
        None => f32::NEG_INFINITY,
    };
    let per_class = call.bool("per_class_suppression", false)?;
    let rows = |name: &str, tensor: &Tensor| -> Result<Vec<f32>, String> {
        let values = call.floats(name)?;
        Ok(match last {
            true => permute(values, &tensor.shape, &[0, 2, 1]),
            false => values.to_vec(),
        })
    };
    let (box_rows, score_rows) = (rows("boxes", boxes)?, rows("scores", scores)?);
    let mut found = Found::default();
    for image in 0..n {
        let image = Boxes {
            boxes: &box_rows[image * count * 4..][..count * 4],
            scores: &score_rows[image * count * classes..][..count * classes],
            classes,
        };
        let kept = keep(&image, count, most, threshold, least, per_class);
        found.add(&image, &kept, most);
    }
    let indices = Tensor::new(vec![n, most], found.indices);
    let pack = |values: Vec<f32>, width: usize| match last {
        true => Tensor::new(
            vec![n, width, most],
            permute(&values, &[n, most, width], &[0, 2, 1]),
        ),
        false => Tensor::new(vec![n, most, width], values),
    };
    let mut results = vec![pack(found.boxes, 4), pack(found.scores, classes), indices];
    if !last {
        results.push(Tensor::new(vec![n], found.counts));
    }
    Ok(results)
}

fn keep(
    image: &Boxes<'_>,
    count: usize,
    most: usize,
    threshold: f32,
    least: f32,
    per_class: bool,
) -> Vec<usize> {
    let best: Vec<(f32, usize)> = (0..count).map(|at| image.best(at)).collect();
    let mut order: Vec<usize> = (0..count).filter(|&at| best[at].0 >= least).collect();
    order.sort_by(|&a, &b| best[b].0.total_cmp(&best[a].0));
    let mut kept: Vec<usize> = Vec::new();
    for at in order {
        if kept.len() == most {
            break;
        }
        let hidden = kept.iter().any(|&other| {
            (!per_class || best[at].1 == best[other].1) && image.overlap(at, other) > threshold
        });
        if !hidden {
            kept.push(at);
        }
    }
    kept
}
