/** The rules that are checked, in a sentence each, with where they are written. */
export const RULES: Readonly<Record<string, string>> = {
  "I-1":
    "nobody reaches a page or a table through a translation that has been taken away (PCIe 10.3; VT-d 6.5; IHI0070 4.4)",
  "I-2":
    "the last page request of a group has one response with its index, and its PASID where that is asked for; others have none (PCIe 10.4)",
  "I-3":
    "a PASID is nobody else's while a queue, a cache or a transaction speaks of its last owner (PCIe 10.4.1; Linux iommu-sva.c)",
  "I-4":
    "pages are charged while they are pinned, to the process that they were charged to (RLIMIT_MEMLOCK; vfio_lock_acct)",
  "I-5": "locks are taken in one order, and nobody sleeps with a spinlock (Linux lockdep-design.rst)",
  "I-6": "hardware never uses an entry that is half old and half new (IHI0070 3.21; VT-d 6.5.3)",
  "I-7":
    "first the table changes, then configuration caches forget, the IOTLB, the ATC, and only then memory is free (VT-d 6.5.3; IHI0070 3.21; PCIe 10.3)",
  freed: "a struct is not looked at after its last reference has gone (mm_count)",
  leak: "what a run takes it gives back",
  time: "every wait is bounded",
  deadlock: "somebody can always go on",
  livelock: "every run ends",
  throw: "drivers refuse with an errno; they throw nothing else",
  scenario: "what the scenario itself asks for",
};
