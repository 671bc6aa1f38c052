// A picture brought to the size that a network takes: what Pillow's ImageOps.fit does with
// BILINEAR. Browsers shrink each by rules of their own; a start image is the same in all of them.

const STRIP = 64; // rows of the picture that are unpacked at a time

/**
 * Return what each of `size` new pixels is made of, where they share `span` old ones of `count`
 * from `first` on: the number of the first one, and the weight of each. The weights are a triangle
 * as wide as the new pixel stands for, so that shrinking leaves nothing out.
 */
export function taps(count, first, span, size) {
  const scale = span / size, reach = Math.max(scale, 1);
  return Array.from({ length: size }, (_, i) => {
    const middle = first + (i + 0.5) * scale;
    const from = Math.max(0, Math.trunc(middle - reach + 0.5));
    const to = Math.min(count, Math.trunc(middle + reach + 0.5));
    const weights = new Float64Array(to - from);
    for (let k = from; k < to; k++)
      weights[k - from] = Math.max(0, 1 - Math.abs((k + 0.5 - middle) / reach));
    const sum = weights.reduce((a, b) => a + b);
    return { from, weights: weights.map((weight) => weight / sum) };
  });
}

/** Return the middle of a picture that has the shape of (height, width). */
function middleOf(picture, [height, width]) {
  const zoom = Math.min(picture.width / width, picture.height / height);
  const wide = zoom * width, high = zoom * height;
  return { left: (picture.width - wide) / 2, top: (picture.height - high) / 2, wide, high };
}

/** Call `take(y, bytes)` with the RGBA of some rows, white behind what is transparent. */
function eachRow(picture, first, end, take) {
  const { width } = picture, canvas = new OffscreenCanvas(width, STRIP);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  for (let top = first; top < end; top += STRIP) {
    context.fillRect(0, 0, width, STRIP);
    context.drawImage(picture, 0, -top);
    const { data } = context.getImageData(0, 0, width, STRIP);
    for (let y = top; y < Math.min(end, top + STRIP); y++)
      take(y, data.subarray(4 * width * (y - top), 4 * width * (y - top + 1)));
  }
}

/** Return a row of RGBA as RGB of another width. */
function narrowed(bytes, across) {
  const out = new Float64Array(3 * across.length);
  across.forEach(({ from, weights }, x) =>
    weights.forEach((weight, k) => {
      for (let c = 0; c < 3; c++) out[3 * x + c] += weight * bytes[4 * (from + k) + c];
    }),
  );
  return out;
}

/** Return the middle of an ImageBitmap as RGB bytes (height, width, 3). */
export function fit(picture, [height, width]) {
  const { left, top, wide, high } = middleOf(picture, [height, width]);
  const across = taps(picture.width, left, wide, width);
  const down = taps(picture.height, top, high, height);
  const last = down.at(-1), out = new Float64Array(height * width * 3);
  eachRow(picture, down[0].from, last.from + last.weights.length, (y, bytes) => {
    const row = narrowed(bytes, across);
    down.forEach(({ from, weights }, at) => {
      const weight = weights[y - from]; // undefined where the row gives nothing
      if (weight) row.forEach((value, i) => (out[at * row.length + i] += weight * value));
    });
  });
  return Uint8ClampedArray.from(out);
}
