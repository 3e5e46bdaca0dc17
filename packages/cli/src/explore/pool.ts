/** Threads that share out tasks: each takes the next when it is done. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { perform, type Task, type TaskResult } from "./task.js";

type Answer = { readonly result: TaskResult } | { readonly error: string };

/** @returns results in the order of the tasks. @param threads 1: in this thread */
export async function performAll(tasks: readonly Task[], threads: number): Promise<readonly TaskResult[]> {
  const results = new Array<TaskResult>(tasks.length);
  let next = 0;
  const take = async (one: (task: Task) => Promise<TaskResult>) => {
    for (let at = next++; at < tasks.length; at = next++) results[at] = await one(tasks[at]);
  };
  if (threads <= 1) await take(perform);
  else await Promise.all(Array.from({ length: Math.min(threads, tasks.length) }, () => inThread(take)));
  return results;
}

async function inThread(take: (one: (task: Task) => Promise<TaskResult>) => Promise<void>): Promise<void> {
  const worker = new Worker(new URL("./worker.js", import.meta.url));
  try {
    await take(async (task) => {
      worker.postMessage(task);
      const [answer] = (await once(worker, "message")) as [Answer];
      if ("error" in answer) throw new Error(answer.error);
      return answer.result;
    });
  } finally {
    await worker.terminate();
  }
}
