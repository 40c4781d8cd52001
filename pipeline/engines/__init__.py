"""The engines that compute units (a loop in this process, or Ray Data), and measurements of their stages.

Other folders import all modules but ray_data: it imports Ray, so compute_target imports it only when it is needed.
"""
