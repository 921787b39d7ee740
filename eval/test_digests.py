"""The hashes that pin the test sets."""

from __future__ import annotations

DIGESTS: dict[str, str] = {
    "varied/attribute/8": "70dd72535ddbded8489632e732c82542f449818aabb82ebeead0eab5630ca37e",
    "varied/attribute/500": "7ab201f0bd2c8ebf3477a1ca572dd8588910c03371e93f84db8ec485859b7ce8",
    "varied/existence/8": "c25641e04196d4a22f2cb55cbcb387c5f20cf4d30b9e65b67332239af191234b",
    "varied/existence/500": "ff7563d2300770f2c91f4b1fdf6f3124ff60e9d68b76b8e3aa4927eb9140c6ef",
    "varied/counting/8": "6fa6b86a4014e3d79be3e0ad6726f7210033de9becffda605d61c0900b32ca17",
    "varied/counting/500": "c6305b3b133ebe607c3b7335a51b821e9e3dfa3d17d4b26b53364b68f9153124",
    "varied/spatial/8": "a1faa4beb2a76570da692cc806054c7cdada15d180f0b2f9f2cd9ff83cce7e96",
    "varied/spatial/500": "202a734151b068563a96cf408b2f420afc1adeabce9b4ac4880d16633cc89b98",
    "varied/reading/8": "e6b63034849de6ba40adf4a66ce5ff21301ecbebddaa818be6471d2d726e0406",
    "varied/reading/500": "a63e26d71c785c12182378d52972fade382b0f99c807f295d2bc7b79f9f57cc1",
    "varied/chart/8": "2e3b5182048143835e5edecd746422bc48373ba4e60d0009e8b32796b9e13e70",
    "varied/chart/500": "d46751bc3b3ed98c25e5b56d7ddacb2d5c523583e3a24b0b3a4c91eb9aab499a",
    "varied/video-event/8": "ad46fbca01f3a7ee635cdda33db1286eecf76410628e017d9919de68dd830830",
    "varied/video-event/500": "8fb5875ecfc9b08b2e9315dd0f61de403cc2446012c703e0c3f60fdcb886d8f6",
    "varied/video-frame/8": "58f04ff8a1d3251dcccab4b97c8d1f969ebaf5401412c8ff955b8e438f11c195",
    "varied/video-frame/500": "bc1b78136558c43cceb8d84cc23d58f01f31a90fcba0aa7d96ad6658bfbadcf5",
    "varied/video-order/8": "7dced75ed7c24506115c3650cec8a0441d02428136c0eebf092aabcc4c4849e1",
    "varied/video-order/500": "98e271622455f99379ec18d5ca08126ac55c569e2051c0efaf0bb20e607ca7c4",
    "varied/video-motion/8": "bf5a107b7bc3ffd6f31bfc43fc80851f301e988fb320de241ecb53687e594a88",
    "varied/video-motion/500": "ad899e02bdd64b9fc044c2c1c0c37ca6c133962902d86aab00c509c70430e05d",
    "board/attribute/8": "8a9c3944362f2bc0d419261cea59a4afc55efbd8327874dbe89b1da92133d9ab",
    "board/attribute/500": "c767052520a43867c12764507ffc4a185d49cc95c2e0f1ddf3d7672a867cb10e",
    "board/existence/8": "82cba918e5a6ece35fdf5a435e277567704e6cb16493c76d0453d6e4343e8eee",
    "board/existence/500": "fb464dcc7e31662dbd57703b1783fe80b7932d9ff3d986a78ffc2c8afddd4106",
    "board/counting/8": "d9e3251a3764c569927c105d2c71a974adf9a482b02bc6af38cb2879e0094490",
    "board/counting/500": "4172c7bdfcb85b921157b5c1cab3a9cdeaae3a529d26bf0fcf9603707f34e70a",
    "board/reading/8": "21b4719af2e73883095ac4297edce09ce6083de7fbc7e978311d9ed98e561185",
    "board/reading/500": "85c494f9bdef3e5a792a441b2f9a571da57b07e1081500b2241f6f37726027cc",
}
"""SHA-256 of the first 8 and of all 500 questions per family with seed 0, by ``scenes/family/count``.

See :func:`vtc.eval.test_sets.digest`; pixels are left out, since they depend on the version of Pillow.
"""
