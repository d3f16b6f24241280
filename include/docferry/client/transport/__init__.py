"""Ways to the client's DynamoDB: the circuit breaker, DAX, metering, and running coroutines without a loop."""
