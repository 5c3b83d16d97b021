"""Many replicas in virtual time: the service's own queue and admission, without a machine."""
