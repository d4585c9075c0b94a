"""Pure, stateless arithmetic that methods share: distances, statistics, sampling, optimiser steps."""
