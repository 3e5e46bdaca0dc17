/** Numbers as the peers' VFIO cases write them: sums and products of symbols, "A+i*(2*HPAGE/16)", "last iova & ~0xfff". */

/** Digits with the unit that programs write behind them. */
const UNITS: Readonly<Record<string, bigint>> = { K: 1n << 10n, M: 1n << 20n, G: 1n << 30n };
const TOKEN = /\s*(0x[\da-f]+|\d+[KMG]?|[A-Za-z_]\w*|<<|[-+*/&|~()])/iy;
/** From loose to tight, each from the left. */
const OPERATORS: readonly Readonly<Record<string, (a: bigint, b: bigint) => bigint>>[] = [
  { "|": (a, b) => a | b },
  { "&": (a, b) => a & b },
  { "<<": (a, b) => a << b },
  { "+": (a, b) => a + b, "-": (a, b) => a - b },
  { "*": (a, b) => a * b, "/": (a, b) => a / b },
];

export type Symbols = Readonly<Record<string, bigint>>;

/** "BUF(16 pages)", "2M (or hugepage)": what stands in brackets is said to the reader. */
function withoutRemarks(text: string): string {
  return text.replace(/\s*\((?:or |\d+ )[a-z]+\)/gi, "");
}

class Expression {
  readonly #tokens: string[] = [];
  #at = 0;

  constructor(
    private readonly text: string,
    private readonly symbols: Symbols,
  ) {
    const source = withoutRemarks(text).trim();
    TOKEN.lastIndex = 0;
    for (let end = 0; end < source.length; end = TOKEN.lastIndex) {
      const token = TOKEN.exec(source)?.[1];
      if (token === undefined) throw this.#error();
      this.#tokens.push(token);
    }
  }

  #error(): Error {
    return new Error(`not a number in a VFIO case: ${JSON.stringify(this.text)}`);
  }

  value(): bigint {
    const result = this.#level(0);
    if (this.#at < this.#tokens.length) throw this.#error();
    return result;
  }

  #level(level: number): bigint {
    const operators = OPERATORS[level];
    if (operators === undefined) return this.#factor();
    let left = this.#level(level + 1);
    for (let apply = operators[this.#tokens[this.#at]]; apply; apply = operators[this.#tokens[this.#at]]) {
      this.#at++;
      left = apply(left, this.#level(level + 1));
    }
    return left;
  }

  #factor(): bigint {
    const token = this.#tokens[this.#at++] ?? "";
    if (token === "-") return -this.#factor();
    if (token === "~") return ~this.#factor();
    if (token === "(") {
      const inner = this.#level(0);
      if (this.#tokens[this.#at++] !== ")") throw this.#error();
      return inner;
    }
    const unit = /^(\d+)([KMG])$/.exec(token);
    if (unit) return BigInt(unit[1]) * UNITS[unit[2]];
    const value = /^\d/.test(token) ? BigInt(token) : this.symbols[token];
    if (value === undefined) throw this.#error();
    return value;
  }
}

/** @throws Error for what is no number, with the text */
export function evaluate(value: unknown, symbols: Symbols): bigint {
  if (typeof value === "bigint") return value;
  if (typeof value === "number" && Number.isSafeInteger(value)) return BigInt(value);
  if (typeof value === "string") return new Expression(value, symbols).value();
  throw new Error(`not a number in a VFIO case: ${JSON.stringify(value)}`);
}
