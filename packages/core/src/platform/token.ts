/** An injection token that shares its name with the interface it stands for. */
import type { InjectionToken } from "tsyringe";

/** `const X = token<X>("X")` beside `interface X`; `container.resolve(X)` then has its type. */
export function token<T>(name: string): InjectionToken<T> {
  return Symbol(`iommukit.${name}`) as InjectionToken<T>;
}
