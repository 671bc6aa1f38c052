// How images are shown: pyoip's contrast rule, on a canvas with one pixel per pixel, which the
// style sheet makes larger.

import { fit } from "./resample.js";

/** Return the value of rank `k` (from 0) of an array, which is partly sorted in place. */
function ranked(values, k) {
  let low = 0, high = values.length - 1;
  while (low < high) {
    const pivot = values[(low + high) >> 1];
    let i = low, j = high;
    while (i <= j) {
      while (values[i] < pivot) i++;
      while (values[j] > pivot) j--;
      if (i <= j) {
        [values[i], values[j]] = [values[j], values[i]];
        i++, j--;
      }
    }
    if (k <= j) high = j;
    else if (k >= i) low = i;
    else break;
  }
  return values[k];
}

/** Return the percentile of values, between two ranks linearly, as NumPy does. */
export function percentile(values, share) {
  const copy = Float64Array.from(values), at = (share / 100) * (copy.length - 1);
  const k = Math.floor(at), below = ranked(copy, k);
  if (k === at) return below;
  let above = Infinity;
  for (let i = k + 1; i < copy.length; i++) above = Math.min(above, copy[i]);
  return below + (at - k) * (above - below);
}

/** Return the one linear grey scale of some images: symmetrical about their mean, see pyoip.canvas. */
export function contrastWindow(images) {
  const values = Float64Array.from(images.flatMap((image) => Array.from(image))).filter(isFinite);
  if (!values.length) return { low: -1, high: 1 };
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const half = percentile(values.map((value) => Math.abs(value - mean)), 99) || 1;
  return { low: mean - half, high: mean + half };
}

/** Return RGBA bytes of an image (C, H, W); neither grey nor RGB, it is drawn as its mean. */
export function toPixels(image, [channels, height, width], { low, high }) {
  const size = height * width, out = new Uint8ClampedArray(4 * size), scale = 255 / (high - low);
  const level = (value) => (value - low) * scale;
  for (let p = 0; p < size; p++) {
    if (channels === 3) {
      for (let c = 0; c < 3; c++) out[4 * p + c] = level(image[c * size + p]);
    } else {
      let sum = 0;
      for (let c = 0; c < channels; c++) sum += image[c * size + p];
      out.fill(level(sum / channels), 4 * p, 4 * p + 3);
    }
    out[4 * p + 3] = 255;
  }
  return out;
}

/** Draw an image on a canvas, by a scale of its own unless one is given. */
export function draw(canvas, image, shape, window = contrastWindow([image])) {
  const [, height, width] = shape;
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const pixels = new ImageData(toPixels(image, shape, window), width, height);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

/**
 * Return a picture file as (C, H, W) with pixels 0 to 1, cut to the middle and brought to size.
 *
 * Grey is weighed as Pillow does; where the network takes neither grey nor RGB, all its channels
 * are the grey picture.
 */
export async function readPicture(file, [channels, height, width]) {
  const picture = await createImageBitmap(file);
  const bytes = fit(picture, [height, width]), size = height * width;
  picture.close();
  const image = new Float32Array(channels * size);
  for (let p = 0; p < size; p++) {
    const rgb = bytes.subarray(3 * p, 3 * p + 3), [r, g, b] = rgb;
    const grey = (19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16;
    for (let c = 0; c < channels; c++)
      image[c * size + p] = (channels === 3 ? rgb[c] : grey) / 255;
  }
  return image;
}

/** Return values as text with the same count of decimals, four digits for the largest. */
export function formatValues(values) {
  const largest = Math.max(0, ...values.filter(isFinite).map(Math.abs));
  const minus = (text) => text.replace("-", "−");
  const power = (value) => minus(value.toExponential(0).replace("e+", "e"));
  if (largest && (largest < 1e-3 || largest >= 1e6)) return values.map(power);
  const decimals = largest ? Math.max(0, 3 - Math.floor(Math.log10(largest))) : 3;
  return values.map((value) => {
    const text = value.toFixed(decimals);
    return value && !Number(text) ? power(value) : minus(text);
  });
}
