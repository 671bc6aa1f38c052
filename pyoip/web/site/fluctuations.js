// Start images, as pyoip.start_images draws them: an image is a pure function of its seed and
// number, and the same here as in Python. Images are planar Float32Arrays (C, H, W).

/** Return a whole number, halves to the even neighbour, as Python rounds. */
function rounded(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}

/** Return how many cells of `scale` pixels lie along `size` pixels. */
export function cells(size, scale) {
  return Math.max(1, rounded(size / scale));
}

/** Return whether an image can vary: some weighty scale has more than one cell. */
export function varies(fluctuations, [, height, width]) {
  const largest = Math.max(...fluctuations.weights);
  return fluctuations.scales.some(
    (scale, i) =>
      fluctuations.weights[i] >= 1e-6 &&
      fluctuations.weights[i] > 1e-3 * largest &&
      cells(height, scale) * cells(width, scale) > 1,
  );
}

// --- the generator -----------------------------------------------------------------------------

/** Return the upper half of the product of two 32-bit words. */
function upper(a, b) {
  const a0 = a & 0xffff, a1 = a >>> 16, b0 = b & 0xffff, b1 = b >>> 16;
  const first = a1 * b0 + ((a0 * b0) >>> 16);
  const second = a0 * b1 + (first & 0xffff);
  return (a1 * b1 + (first >>> 16) + (second >>> 16)) >>> 0;
}

/** Philox4x32-10 (Salmon et al., SC 2011) of one counter, in place; `key` is two words. */
export function philox(x, key) {
  let [x0, x1, x2, x3] = x;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const y0 = (upper(0xcd9e8d57, x2) ^ x1 ^ k0) >>> 0;
    const y2 = (upper(0xd2511f53, x0) ^ x3 ^ k1) >>> 0;
    x1 = Math.imul(0xcd9e8d57, x2) >>> 0;
    x3 = Math.imul(0xd2511f53, x0) >>> 0;
    x0 = y0;
    x2 = y2;
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  x[0] = x0, x[1] = x1, x[2] = x2, x[3] = x3;
}

/** Return a whole number of up to 64 bits as two words, the lower first. */
function words(value) {
  const whole = BigInt(value);
  return [Number(whole & 0xffffffffn), Number(whole >> 32n)];
}

/** Return `count` standard normal values: the Box–Muller transform of Philox. */
export function normalValues(seed, stream, slot, index, count) {
  const key = words(seed), [low, high] = words(index);
  const out = new Float64Array(count + 3), x = new Uint32Array(4);
  for (let at = 0; at < count; at += 4) {
    x[0] = at / 4, x[1] = (stream << 8) | slot, x[2] = low, x[3] = high;
    philox(x, key);
    for (let pair = 0; pair < 4; pair += 2) {
      const r = Math.sqrt(-2 * Math.log(((x[pair] >>> 8) + 1) / 2 ** 24));
      const angle = (2 * Math.PI * x[pair + 1]) / 2 ** 32;
      out[at + pair] = r * Math.cos(angle);
      out[at + pair + 1] = r * Math.sin(angle);
    }
  }
  return out.subarray(0, count);
}

// --- the image ---------------------------------------------------------------------------------

/** Return how much each cell gives to each pixel, (size, cells): Keys' cubic, edges replicated. */
function bicubic(count, size) {
  const weights = new Float64Array(size * count);
  for (let x = 0; x < size; x++) {
    const at = ((x + 0.5) * count) / size - 0.5, left = Math.floor(at);
    for (let tap = left - 1; tap <= left + 2; tap++) {
      const d = Math.abs(at - tap);
      let w = 0;
      if (d < 1) w = (1.5 * d - 2.5) * d * d + 1;
      else if (d < 2) w = ((-0.5 * d + 2.5) * d - 4) * d + 2;
      weights[x * count + Math.min(Math.max(tap, 0), count - 1)] += w;
    }
  }
  return weights;
}

/** Add weight · (grid (down, across), upsampled) to a plane (height, width). */
function addUpsampled(grid, [down, across], weight, plane, [height, width]) {
  const alongX = bicubic(across, width), alongY = bicubic(down, height);
  const rows = new Float64Array(down * width);
  for (let r = 0; r < down; r++)
    for (let x = 0; x < width; x++)
      for (let c = 0; c < across; c++)
        rows[r * width + x] += grid[r * across + c] * alongX[x * across + c];
  for (let y = 0; y < height; y++)
    for (let r = 0; r < down; r++) {
      const w = weight * alongY[y * down + r];
      if (w) for (let x = 0; x < width; x++) plane[y * width + x] += w * rows[r * width + x];
    }
}

/** Blur every channel by the 3×3 binomial kernel, edges replicated. */
export function blur(image, [channels, height, width]) {
  const out = new Float64Array(image.length);
  const at = (c, y, x) => (c * height + Math.min(Math.max(y, 0), height - 1)) * width + x;
  for (let c = 0; c < channels; c++)
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++)
        out[at(c, y, x)] =
          0.25 * (image[at(c, y - 1, x)] + image[at(c, y + 1, x)]) + 0.5 * image[at(c, y, x)];
  for (let row = 0; row < out.length; row += width) {
    const was = out.slice(row, row + width);
    for (let x = 0; x < width; x++)
      out[row + x] = 0.25 * (was[Math.max(x - 1, 0)] + was[Math.min(x + 1, width - 1)]) + 0.5 * was[x];
  }
  return out;
}

/** Return the image with zero mean and unit deviation; as it is where it does not vary. */
function standardised(image) {
  let sum = 0, square = 0;
  for (const value of image) sum += value;
  const mean = sum / image.length;
  for (const value of image) square += (value - mean) ** 2;
  const deviation = Math.sqrt(square / image.length);
  return image.map((value) => (value - mean) / (deviation > 0 ? deviation : 1));
}

/** Return the image brought to the constraint. */
export function constrain(image, { kind, low, high }) {
  const exact = Float64Array.from(image);
  if (kind === "standardize") return Float32Array.from(standardised(exact));
  return Float32Array.from(exact, (value) => Math.min(Math.max(value, low), high));
}

/**
 * Return start image number `index` of the pool (`seed`, `stream`), (C, H, W).
 *
 * `fluctuations` holds scales, weights and smoothing, as pyoip.Fluctuations; of a box, two
 * deviations reach the edges.
 */
export function startImage(shape, fluctuations, { seed, index, constraint, stream = 0 }) {
  const [channels, height, width] = shape, size = height * width;
  let image = new Float64Array(channels * size);
  fluctuations.scales.forEach((scale, slot) => {
    const weight = fluctuations.weights[slot];
    if (!weight) return;
    const grid = [cells(height, scale), cells(width, scale)], count = grid[0] * grid[1];
    const values = normalValues(seed, stream, slot, index, channels * count);
    for (let c = 0; c < channels; c++) {
      const own = values.subarray(c * count, (c + 1) * count);
      const plane = image.subarray(c * size, (c + 1) * size);
      if (count === size) own.forEach((value, i) => (plane[i] += weight * value));
      else addUpsampled(own, grid, weight, plane, [height, width]);
    }
  });
  for (let pass = 0; pass < fluctuations.smoothing; pass++) image = blur(image, shape);
  const even = standardised(image);
  if (constraint.kind === "standardize") return Float32Array.from(even);
  const { low, high } = constraint, middle = (low + high) / 2, spread = (high - low) / 4;
  return constrain(even.map((value) => middle + spread * value), constraint);
}
