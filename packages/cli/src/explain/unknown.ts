/** Lines that were meant for explain and that nothing knew: they are reported, never guessed. */
const MEANT =
  /fault reason|\bevent 0x[0-9a-f]+ received|_PAGE_FAULT|AMD-Vi: Event logged|qi_submit:|reg_base_addr|\(XEN\).*AMD-Vi: [A-Z_]+:|Request device \[/;
/** Words alone on a line, the first of them too long for a count. */
const WORDS = /^\s*0x[0-9a-f]{8,16}(?:\s+0x[0-9a-f]{1,16})*\s*$/i;
const SHOWN = 10;

export class Unknown {
  readonly #lines: string[] = [];
  #count = 0;

  add(number: number, text: string, all: boolean): void {
    if (text.trim() === "" || !(all || MEANT.test(text) || WORDS.test(text))) return;
    if (++this.#count <= SHOWN) this.#lines.push(`line ${number}: not understood: ${text.trim().slice(0, 120)}`);
  }

  report(): string[] {
    const more = this.#count - this.#lines.length;
    return more > 0 ? [...this.#lines, `${more} more lines not understood`] : this.#lines;
  }
}
