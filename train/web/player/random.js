"use strict";
// The random numbers of palaestra.envs.core.rng: every draw is a function of seed, environment, episode, step and the
// number of the draw. SplitMix64 on BigInts, so that an episode here is the same episode as in the tensor code.

const GAMMA = 0x9e3779b97f4a7c15n;
const wrapped = (value) => BigInt.asUintN(64, value);

function mix(z) {
  z = wrapped((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
  z = wrapped((z ^ (z >> 27n)) * 0x94d049bb133111ebn);
  return z ^ (z >> 31n);
}

const childKey = (key, counter) => mix(wrapped(key + (BigInt(counter) + 1n) * GAMMA));

/** The key of an episode: of a seed ≥ 0, an environment's index and the number of its episode. */
function episodeKey(seed, index, episode) {
  let root = mix(GAMMA); // of the stream of environments, which is the first
  let left = BigInt(seed);
  do {
    root = mix(wrapped(root + wrapped(left) + GAMMA));
    left >>= 64n;
  } while (left > 0n);
  return childKey(mix(wrapped(BigInt(index) * GAMMA + root + GAMMA)), episode);
}

/** The largest float32 below one. */
function nextBelow(value) {
  const bits = new Int32Array(Float32Array.of(value).buffer);
  if (value === 0) return -1.401298464324817e-45;
  bits[0] += value > 0 ? -1 : 1;
  return new Float32Array(bits.buffer)[0];
}

/** The random numbers of one reset (step 0) or step (1, 2, …). */
class Random {
  constructor(key, step) {
    this.key = childKey(key, step);
    this.draws = 0n;
  }

  _bits() {
    this.draws += 1n;
    return mix(wrapped(this.key + this.draws * GAMMA));
  }

  /** A whole number from low to high − 1. */
  integer(low, high) {
    return low + Number(((this._bits() >> 32n) * BigInt(high - low)) >> 32n);
  }

  /** A float32 in [0, 1). */
  uniform() {
    return Number(this._bits() >> 40n) * 2 ** -24;
  }

  /** One draw of as many float32 as there are pairs of bounds, each from [low, high). */
  uniforms(low, high) {
    const bits = this._bits();
    return Float32Array.from(low, (from, lane) => {
      const unit = Number(mix(wrapped(bits + BigInt(lane + 1) * GAMMA)) >> 40n) * 2 ** -24;
      const drawn = Math.fround(Math.fround(unit * Math.fround(high[lane] - from)) + from);
      return drawn < high[lane] ? drawn : nextBelow(high[lane]);
    });
  }

  /** The place of a true entry, all equally likely; as many as there are entries where none is true. */
  choice(mask) {
    let count = 0;
    for (const entry of mask) count += entry ? 1 : 0;
    let wanted = this.integer(0, count) + 1;
    for (let place = 0; place < mask.length; place++) {
      if (mask[place] && --wanted === 0) return place;
    }
    return mask.length;
  }
}
