export * from "../machines/load-machine.js";
export * from "./session.js";
