"""A camera that parfocal drives itself: frames from Micro-Manager's core, kept as files.

    CMMCore or the simulated IX50  -->  gate  -->  lossless file and sidecar  -->  FolderSource
    |______________________ camera child, killable ______________________|

The child alone touches a driver. What it keeps is an image file, so a camera frame takes the same
road as one that camera software saved: the same journal, the same decoder, the same pixels later.
"""
