"""The hashes that pin the test sets."""

from __future__ import annotations

DIGESTS: dict[str, str] = {
    "attribute/8": "70dd72535ddbded8489632e732c82542f449818aabb82ebeead0eab5630ca37e",
    "attribute/500": "7ab201f0bd2c8ebf3477a1ca572dd8588910c03371e93f84db8ec485859b7ce8",
    "existence/8": "c25641e04196d4a22f2cb55cbcb387c5f20cf4d30b9e65b67332239af191234b",
    "existence/500": "ff7563d2300770f2c91f4b1fdf6f3124ff60e9d68b76b8e3aa4927eb9140c6ef",
    "counting/8": "6fa6b86a4014e3d79be3e0ad6726f7210033de9becffda605d61c0900b32ca17",
    "counting/500": "c6305b3b133ebe607c3b7335a51b821e9e3dfa3d17d4b26b53364b68f9153124",
    "spatial/8": "a1faa4beb2a76570da692cc806054c7cdada15d180f0b2f9f2cd9ff83cce7e96",
    "spatial/500": "202a734151b068563a96cf408b2f420afc1adeabce9b4ac4880d16633cc89b98",
    "reading/8": "e6b63034849de6ba40adf4a66ce5ff21301ecbebddaa818be6471d2d726e0406",
    "reading/500": "a63e26d71c785c12182378d52972fade382b0f99c807f295d2bc7b79f9f57cc1",
    "chart/8": "2e3b5182048143835e5edecd746422bc48373ba4e60d0009e8b32796b9e13e70",
    "chart/500": "d46751bc3b3ed98c25e5b56d7ddacb2d5c523583e3a24b0b3a4c91eb9aab499a",
    "video-event/8": "ad46fbca01f3a7ee635cdda33db1286eecf76410628e017d9919de68dd830830",
    "video-event/500": "8fb5875ecfc9b08b2e9315dd0f61de403cc2446012c703e0c3f60fdcb886d8f6",
    "video-frame/8": "58f04ff8a1d3251dcccab4b97c8d1f969ebaf5401412c8ff955b8e438f11c195",
    "video-frame/500": "bc1b78136558c43cceb8d84cc23d58f01f31a90fcba0aa7d96ad6658bfbadcf5",
    "video-order/8": "7dced75ed7c24506115c3650cec8a0441d02428136c0eebf092aabcc4c4849e1",
    "video-order/500": "98e271622455f99379ec18d5ca08126ac55c569e2051c0efaf0bb20e607ca7c4",
    "video-motion/8": "bf5a107b7bc3ffd6f31bfc43fc80851f301e988fb320de241ecb53687e594a88",
    "video-motion/500": "ad899e02bdd64b9fc044c2c1c0c37ca6c133962902d86aab00c509c70430e05d",
}
"""SHA-256 of the first 8 and of all 500 questions per family with seed 0, by ``family/count``.

See :func:`vtc.eval.quality.questions.digest`; pixels are left out, since they depend on the version of Pillow.
"""
