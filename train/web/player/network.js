"use strict";
// A policy's network: the operators of its ONNX graph, run one after another for one observation, in float32.

function decoded(text) {
  const bytes = atob(text);
  const array = new Uint8Array(bytes.length);
  for (let i = 0; i < bytes.length; i++) array[i] = bytes.charCodeAt(i);
  return array.buffer;
}

const floats = (text) => new Float32Array(decoded(text));
const shorts = (text) => new Uint16Array(decoded(text));

/** A float16's number. */
function fromHalf(bits) {
  const [sign, power, rest] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (power === 0) return sign * rest * 2 ** -24;
  return power === 31 ? (rest ? NaN : sign * Infinity) : sign * (1 + rest / 1024) * 2 ** (power - 15);
}

/** A tensor as the page stores it: float32, float16, int8 with a scale for each row, or whole numbers as they are. */
function unpacked({ shape, dtype, data, scale }) {
  if (dtype === "numbers") return { shape, data };
  if (dtype === "float32") return { shape, data: floats(data) };
  if (dtype === "float16") return { shape, data: Float32Array.from(shorts(data), fromHalf) };
  const whole = new Int8Array(decoded(data));
  const scales = floats(scale);
  const width = whole.length / scales.length;
  return { shape, data: Float32Array.from(whole, (x, i) => x * scales[Math.floor(i / width)]) };
}

const count = (shape) => shape.reduce((product, n) => product * n, 1);
const each = (f) => (x) => ({ shape: x.shape, data: Float32Array.from(x.data, f) });

/** Tensors of shapes that broadcast, and an operation on their entries. */
function paired(f) {
  return (...parts) => {
    const rank = Math.max(...parts.map((x) => x.shape.length));
    const sizes = parts.map((x) => [...new Array(rank - x.shape.length).fill(1), ...x.shape]);
    const shape = Array.from({ length: rank }, (_, i) => Math.max(...sizes.map((of) => of[i])));
    const data = new Float32Array(count(shape));
    const place = (of, index) => of.reduce((at, n, i) => at * n + (n === 1 ? 0 : index[i]), 0);
    const index = new Array(rank).fill(0);
    for (let i = 0; i < data.length; i++) {
      data[i] = f(...parts.map((x, k) => x.data[place(sizes[k], index)]));
      for (let axis = rank - 1; axis >= 0 && ++index[axis] === shape[axis]; axis--) index[axis] = 0;
    }
    return { shape, data };
  };
}

/** The rows of a tensor along its last axes from ``axis`` on. */
function rows({ shape, data }, axis) {
  const width = count(shape.slice(axis < 0 ? shape.length + axis : axis));
  return Array.from({ length: data.length / width }, (_, i) => data.slice(i * width, (i + 1) * width));
}

function gemm(a, b, c, { transA = 0, transB = 0, alpha = 1, beta = 1 }) {
  if (transA) throw new Error("Gemm of a transposed input");
  const inner = a.shape[1];
  const outer = b.shape[transB ? 0 : 1];
  const data = new Float32Array(outer);
  for (let j = 0; j < outer; j++) {
    let sum = 0;
    for (let i = 0; i < inner; i++) sum += a.data[i] * (transB ? b.data[j * inner + i] : b.data[i * outer + j]);
    data[j] = alpha * sum + (c ? beta * c.data[j] : 0);
  }
  return { shape: [1, outer], data };
}

function convolution(x, w, b, { strides = [1, 1], pads = [0, 0, 0, 0], group = 1, dilations = [1, 1] }) {
  if (group !== 1 || dilations.some((d) => d !== 1)) throw new Error("Conv with groups or dilations");
  const [, channels, height, width] = x.shape;
  const [filters, , tall, wide] = w.shape;
  const [rowsOut, columnsOut] = [
    Math.floor((height + pads[0] + pads[2] - tall) / strides[0]) + 1,
    Math.floor((width + pads[1] + pads[3] - wide) / strides[1]) + 1,
  ];
  const data = new Float32Array(filters * rowsOut * columnsOut);
  let at = 0;
  for (let f = 0; f < filters; f++) {
    for (let r = 0; r < rowsOut; r++) {
      for (let c = 0; c < columnsOut; c++) {
        let sum = b ? b.data[f] : 0;
        for (let k = 0; k < channels; k++) {
          for (let i = 0; i < tall; i++) {
            const row = r * strides[0] + i - pads[0];
            if (row < 0 || row >= height) continue;
            for (let j = 0; j < wide; j++) {
              const column = c * strides[1] + j - pads[1];
              if (column < 0 || column >= width) continue;
              sum += x.data[(k * height + row) * width + column] * w.data[((f * channels + k) * tall + i) * wide + j];
            }
          }
        }
        data[at++] = sum;
      }
    }
  }
  return { shape: [1, filters, rowsOut, columnsOut], data };
}

function normalized(x, scale, shift, { axis = -1, epsilon = 1e-5 }) {
  const data = new Float32Array(x.data.length);
  let at = 0;
  for (const row of rows(x, axis)) {
    const mean = row.reduce((sum, v) => sum + v, 0) / row.length;
    const spread = Math.sqrt(row.reduce((sum, v) => sum + (v - mean) ** 2, 0) / row.length + epsilon);
    row.forEach((v, i) => (data[at++] = ((v - mean) / spread) * scale.data[i] + (shift ? shift.data[i] : 0)));
  }
  return { shape: x.shape, data };
}

function reshaped(x, to) {
  const shape = to.data.map((n, i) => (n === 0 ? x.shape[i] : n));
  const known = shape.reduce((product, n) => (n === -1 ? product : product * n), 1);
  return { shape: shape.map((n) => (n === -1 ? x.data.length / known : n)), data: x.data };
}

function reduced(x, { axes, keepdims = 1 }, f) {
  const last = x.shape.length - 1;
  if (axes.length !== 1 || (axes[0] !== -1 && axes[0] !== last)) throw new Error("a reduction over other axes than the last");
  const shape = keepdims ? [...x.shape.slice(0, last), 1] : x.shape.slice(0, last);
  return { shape, data: Float32Array.from(rows(x, -1), f) };
}

const summed = (row) => row.reduce((sum, x) => sum + x, 0);
const exponentials = (row) => { const most = Math.max(...row); return row.map((x) => Math.exp(x - most)); };

/** The operators that policies are made of. */
const OPERATORS = {
  Gemm: (i, a) => gemm(i[0], i[1], i[2], a),
  MatMul: (i) => gemm(i[0], i[1], null, {}),
  Conv: (i, a) => convolution(i[0], i[1], i[2], a),
  LayerNormalization: (i, a) => normalized(i[0], i[1], i[2], a),
  Add: (i) => paired((x, y) => x + y)(i[0], i[1]),
  Sub: (i) => paired((x, y) => x - y)(i[0], i[1]),
  Mul: (i) => paired((x, y) => x * y)(i[0], i[1]),
  Div: (i) => paired((x, y) => x / y)(i[0], i[1]),
  Max: (i) => paired(Math.max)(i[0], i[1]),
  Min: (i) => paired(Math.min)(i[0], i[1]),
  Not: (i) => each((x) => (x ? 0 : 1))(i[0]),
  Where: (i) => paired((isFirst, x, y) => (isFirst ? x : y))(i[0], i[1], i[2]),
  Relu: (i) => each((x) => Math.max(x, 0))(i[0]),
  Tanh: (i) => each(Math.tanh)(i[0]),
  Sin: (i) => each(Math.sin)(i[0]),
  Cos: (i) => each(Math.cos)(i[0]),
  Exp: (i) => each(Math.exp)(i[0]),
  Sigmoid: (i) => each((x) => 1 / (1 + Math.exp(-x)))(i[0]),
  Clip: (i) => each((x) => Math.min(Math.max(x, i[1] ? i[1].data[0] : -Infinity), i[2] ? i[2].data[0] : Infinity))(i[0]),
  Reshape: (i) => reshaped(i[0], i[1]),
  Flatten: (i, { axis = 1 }) => ({ shape: [count(i[0].shape.slice(0, axis)), count(i[0].shape.slice(axis))], data: i[0].data }),
  Squeeze: (i, { axes }) => ({ shape: i[0].shape.filter((n, k) => !axes.some((a) => (a < 0 ? a + i[0].shape.length : a) === k)), data: i[0].data }),
  Expand: (i) => paired((x) => x)(i[0], { shape: Array.from(i[1].data), data: new Float32Array(count(Array.from(i[1].data))) }),
  Shape: (i, { start = 0, end = Infinity }) => ({ shape: [i[0].shape.slice(start, end).length], data: i[0].shape.slice(start, end) }),
  Identity: (i) => i[0],
  Cast: (i) => i[0],
  Concat: (i, { axis }) => joined(i, axis),
  ReduceMean: (i, a) => reduced(i[0], a, (row) => summed(row) / row.length),
  ReduceSum: (i, a) => reduced(i[0], a, summed),
  LogSoftmax: (i) => ({ shape: i[0].shape, data: Float32Array.from(rows(i[0], -1).flatMap((row) => {
    const [most, all] = [Math.max(...row), Math.log(summed(exponentials(row)))];
    return Array.from(row, (x) => x - most - all);
  })) }),
  ArgMax: (i) => ({ shape: [1], data: rows(i[0], -1).map((row) => row.indexOf(row.reduce((a, b) => (b > a ? b : a)))) }),
};

function joined(parts, axis) {
  const last = parts[0].shape.length - 1;
  if (axis !== -1 && axis !== last) throw new Error("Concat over another axis than the last");
  const split = parts.map((part) => rows(part, -1));
  const data = split[0].flatMap((_, i) => split.flatMap((rowsOf) => Array.from(rowsOf[i])));
  const width = parts.reduce((sum, part) => sum + part.shape[last], 0);
  return { shape: [...parts[0].shape.slice(0, last), width], data: Float32Array.from(data) };
}

/** A policy: from an observation to its outputs by name, ``action`` among them. */
class Network {
  constructor({ nodes, tensors, input, mask = null, outputs }) {
    Object.assign(this, { nodes, input, mask, outputs });
    this.constants = Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, unpacked(tensor)]));
  }

  /** @param {Float32Array} observation of the shape that the input has. @param {boolean[]} legal of each action, for a policy that asks. */
  run(observation, legal) {
    const values = { ...this.constants, [this.input.name]: { shape: [1, ...this.input.shape], data: observation } };
    if (this.mask !== null) values[this.mask] = { shape: [1, legal.length], data: legal };
    for (const { op, inputs, output, attributes } of this.nodes) {
      values[output] = OPERATORS[op](inputs.map((name) => values[name]), attributes);
    }
    return Object.fromEntries(this.outputs.map((name) => [name, Array.from(values[name].data)]));
  }
}
