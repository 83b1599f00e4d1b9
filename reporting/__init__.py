"""What commands tell: lines on their progress, and reports of measurements with their machine.

Builders, evaluation, loadtest, local_server and seed import it. It measures nothing itself and
knows none of them.
"""
