/** A thread that performs tasks, one after the other. */
import { parentPort } from "node:worker_threads";
import { perform, type Task } from "./task.js";

parentPort?.on("message", (task: Task) => {
  perform(task).then(
    (result) => parentPort?.postMessage({ result }),
    (error: unknown) => parentPort?.postMessage({ error: error instanceof Error ? error.stack : String(error) }),
  );
});
