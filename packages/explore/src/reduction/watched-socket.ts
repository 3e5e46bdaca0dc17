/** Tells a history what goes between chips and the rest of the machine. */
import type { ChipPorts, ChipSocket, IommuChip, IommuInstance } from "@iommukit/core";
import type { History } from "./history.js";
import { TRANSLATION } from "./watched-trace.js";

export class WatchedSocket implements ChipSocket {
  readonly #chips = new Set<IommuChip>();

  constructor(private readonly history: History) {}

  /** Registers and the translation port: whoever calls or looks touches the chip. */
  chip(chip: IommuChip): IommuChip {
    const { history } = this;
    const spot = history.spot(chip.name);
    for (const unit of chip.units) history.belongs(unit, spot);
    const bound = new Map<unknown, unknown>();
    const watched = new Proxy(chip, {
      get(target, key) {
        history.touch(spot, true);
        const value: unknown = Reflect.get(target, key, target);
        if (typeof value !== "function") return value;
        if (!bound.has(value)) bound.set(value, value.bind(target));
        return bound.get(value);
      },
    });
    this.#chips.add(watched);
    return watched;
  }

  /** What the chips of a machine do is seen. @throws Error a chip is in no socket */
  expect(iommus: readonly IommuInstance[]): void {
    for (const { name, chip } of iommus)
      if (!this.#chips.has(chip))
        throw new Error(`states cannot be told apart: the chip of ${name} is not plugged into the ChipSocket`);
  }

  /** A message to a device reaches what it has cached and what it waits for. */
  ports(ports: ChipPorts): ChipPorts {
    const { history } = this;
    const devices = history.spot(TRANSLATION);
    return {
      ...ports,
      requesters: {
        find(rid) {
          history.touch(devices, true);
          return ports.requesters.find(rid);
        },
      },
    };
  }
}
